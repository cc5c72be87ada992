/* Pack files into a ZIP without compression, because PNGs don't shrink. Format: PKWARE APPNOTE 6.3.10, without ZIP64 (4 GB, 65,535 files). */

/* `entries`: [{name, blob}] with unique names. Returns a Blob. */
async function zip(entries) {
  const parts = [], directory = [];
  let offset = 0;
  for (const { name, blob } of entries) {
    const path = new TextEncoder().encode(name);
    const crc = crc32(new Uint8Array(await blob.arrayBuffer()));
    // version 2.0, names in UTF-8, stored, no time (1980-01-01), CRC, both sizes, length of the name, no extra field
    const common = numbers([2, 20], [2, 0x0800], [2, 0], [2, 0], [2, 0x21], [4, crc], [4, blob.size], [4, blob.size], [2, path.length], [2, 0]);
    const local = [numbers([4, 0x04034b50]), common, path, blob];
    directory.push(numbers([4, 0x02014b50], [2, 20]), common, numbers([2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), path);
    parts.push(...local);
    offset += 30 + path.length + blob.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = numbers([4, 0x06054b50], [2, 0], [2, 0], [2, entries.length], [2, entries.length], [4, size], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/* Encode [bytes, value] pairs, little-endian. */
function numbers(...fields) {
  const bytes = [];
  for (const [length, value] of fields) for (let i = 0; i < length; i++) bytes.push((value >>> (8 * i)) & 255);
  return Uint8Array.from(bytes);
}

/* Make names unique: a.png, a-2.png. */
function distinct(names) {
  const taken = new Set();
  return names.map((name) => {
    let free = name;
    for (let n = 2; taken.has(free); n++) free = name.replace(/(\.[^.]*)?$/, `-${n}$1`);
    taken.add(free);
    return free;
  });
}
