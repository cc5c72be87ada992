/* A photo's picture at full size, as a PNG. The server draws it if it can, because it also removes background colours
   from the soft edge (humanseg/segmentation/foreground.py). */

async function serverPng(photo, what) {
  const fields = { ...serverFields(what), ...photo.options, threshold: photo.threshold, archive: "no" };
  return (await ask(photo.file, fields)).blob();
}

async function serverPicture(photo, what) { return decode(await serverPng(photo, what)); }

/* The PNG of one photo with this look. Raises Refusal. */
async function fullSize(photo, what) {
  const opened = await open(photo);
  let cut = null;
  try {
    const byHand = photo.strokes.length > 0 && opened.own !== null;
    const people = what.kind === "cutout" || what.kind === "composite";
    if (!byHand && what.background !== "picture" && (people || (what.kind !== "mask" && !opened.own))) return await serverPng(photo, what);
    if (people) cut = await serverPicture(photo, { kind: "cutout" });
    return await drawFullSize(photo, what, opened, cut);
  } finally {
    release(opened.own, opened.grey, cut);
  }
}

async function drawFullSize(photo, what, { own, grey }, cut) {
  const { facts, strokes, threshold } = photo, { width, height } = facts;
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const blurred = what.background === "blur" ? blurredFor(photo, { own, grey }) : null;
  // Draw the whole picture once, then change it in strips: drawing each strip would decode a large picture again.
  if (what.kind !== "mask") pen.drawImage(cut || own, 0, 0, width, height);
  for (const [top, rows] of strips(width, height)) {
    const layer = layerRows(strokes, facts, width, height, top, rows);
    const edited = corrected(firstOfFour(pixels(grey, width, height, top, rows)), layer);
    const strip = pen.getImageData(0, top, width, rows);
    if (cut && layer) restorePhoto(strip.data, pixels(own, width, height, top, rows), layer);
    const behind = what.kind === "composite" ? behindRows(what, blurred, width, height, top, rows) : null;
    blend(what.kind, threshold, edited, strip.data, behind);
    pen.putImageData(strip, 0, top);
  }
  return canvas.convertToBlob({ type: "image/png" });
}

function blurredFor(photo, opened) {
  const ready = prepare(photo, opened);
  return blurredBackground(ready.rgba, ready.edited, photo.threshold, ready.width, ready.height);
}

/* The server's cut-out has no valid colours where the brush added pixels: use the photo's colours there. */
function restorePhoto(rgba, own, layer) {
  for (let j = 0; j < rgba.length; j += 4) {
    if (layer[j + 3]) { rgba[j] = own[j]; rgba[j + 1] = own[j + 1]; rgba[j + 2] = own[j + 2]; }
  }
}
