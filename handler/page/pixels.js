/* Turn probability and photo into pixels, by the server's rules (humanseg/segmentation: mask.py, picture.py).
   `grey` has one byte per pixel, the probability 0..255; `rgba` has four. Pure functions. */
const OVERLAY = [56, 132, 255];     // the server's overlay colour and strength
const STRENGTH = 0.55;

/* Probability to alpha: a ramp around the threshold. 256 bytes. */
function alphaTable(threshold) {
  const reach = 0.5 * Math.min(threshold, 1 - threshold);
  return Uint8ClampedArray.from({ length: 256 }, (_, level) => 255 * (level / 255 - (threshold - reach)) / (2 * reach));
}

/* Probability to mask: a step at the threshold. 256 bytes, 0 or 255. */
function maskTable(threshold) {
  const last = Math.floor(threshold * 255);
  return Uint8ClampedArray.from({ length: 256 }, (_, level) => level > last ? 255 : 0);
}

/* Turn a photo's `rgba` into a picture of this `kind`, in place. `behind` is a composite's background, RGBA. */
function blend(kind, threshold, grey, rgba, behind) {
  const table = kind === "mask" ? maskTable(threshold) : alphaTable(threshold);
  if (kind === "mask") {
    for (let i = 0, j = 0; i < grey.length; i++, j += 4) { rgba[j] = rgba[j + 1] = rgba[j + 2] = table[grey[i]]; rgba[j + 3] = 255; }
  } else if (kind === "cutout") {
    for (let i = 0, j = 3; i < grey.length; i++, j += 4) rgba[j] = table[grey[i]];
  } else if (kind === "overlay") {
    for (let i = 0, j = 0; i < grey.length; i++, j += 4) {
      const share = STRENGTH * table[grey[i]] / 255;
      for (let c = 0; c < 3; c++) rgba[j + c] += share * (OVERLAY[c] - rgba[j + c]);
      rgba[j + 3] = 255;
    }
  } else {
    for (let i = 0, j = 0; i < grey.length; i++, j += 4) {
      const share = table[grey[i]] / 255;
      for (let c = 0; c < 3; c++) rgba[j + c] = behind[j + c] + share * (rgba[j + c] - behind[j + c]);
      rgba[j + 3] = 255;
    }
  }
}

/* [top, rows] of the strips in which a picture of width x height is drawn, to bound the memory. One that is shown at its
   own size is one strip: the browser draws the edge of a stroke that leaves the canvas slightly differently, and what is
   saved must be what was shown. */
function* strips(width, height) {
  const step = Math.max(1, Math.floor(SHOWN_SIDE ** 2 / width));
  for (let top = 0; top < height; top += step) yield [top, Math.min(step, height - top)];
}

/* Rows top..top+rows of `image`, drawn at width x height: RGBA. */
function pixels(image, width, height, top, rows) {
  const canvas = new OffscreenCanvas(width, rows);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  if (image) pen.drawImage(image, 0, -top, width, height);
  return pen.getImageData(0, 0, width, rows).data;
}

function firstOfFour(rgba) {
  const grey = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < grey.length; i++) grey[i] = rgba[4 * i];
  return grey;
}

/* Share of person pixels, 0..1. */
function coverage(grey, threshold) {
  const last = Math.floor(threshold * 255);
  let person = 0;
  for (const level of grey) if (level > last) person++;
  return person / grey.length;
}
