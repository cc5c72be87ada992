/* Encode a mask as a PNG with one channel (8-bit grey, no filter), which a canvas can't do. */
async function maskPng(width, height, rowsOf) {
  const packed = new CompressionStream("deflate");        // the zlib format of IDAT
  const whole = new Response(packed.readable).arrayBuffer();
  const pen = packed.writable.getWriter();
  for (const [top, rows] of strips(width, height)) {
    const grey = rowsOf(top, rows);
    const lines = new Uint8Array(rows * (width + 1));      // each line starts with its filter type: 0, none
    for (let y = 0; y < rows; y++) lines.set(grey.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
    await pen.write(lines);
  }
  await pen.close();
  const size = new Uint8Array(13), view = new DataView(size.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  size[8] = 8;                                             // bits per sample; grey, deflate and no interlacing are 0
  const start = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  const data = new Uint8Array(await whole);
  return new Blob([start, ...chunk("IHDR", size), ...chunk("IDAT", data), ...chunk("IEND", new Uint8Array())], { type: "image/png" });
}

function chunk(name, data) {
  const body = new Uint8Array(4 + data.length), length = new DataView(new ArrayBuffer(4)), sum = new DataView(new ArrayBuffer(4));
  body.set(new TextEncoder().encode(name));
  body.set(data, 4);
  length.setUint32(0, data.length);
  sum.setUint32(0, crc32(body));
  return [length, body, sum];
}
