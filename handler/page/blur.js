/* The photo's background, blurred without the person, like the server's `background=blur`: a normalised convolution
   at an eighth of the size. Returns a small canvas, to be drawn enlarged. */
function blurredBackground(rgba, grey, threshold, width, height) {
  const small = { width: Math.max(1, Math.floor(width / 8)), height: Math.max(1, Math.floor(height / 8)) };
  const sums = shrink(rgba, grey, alphaTable(threshold), width, height, small);
  const sigma = Math.max(small.width, small.height) / 50;
  const smooth = gaussian(gaussian(sums, small.width, small.height, sigma, 1), small.width, small.height, sigma, small.width);
  const picture = new ImageData(small.width, small.height);
  for (let i = 0; i < smooth.length; i += 4) {
    for (let c = 0; c < 3; c++) picture.data[i + c] = smooth[i + c] / smooth[i + 3];
    picture.data[i + 3] = 255;
  }
  const canvas = new OffscreenCanvas(small.width, small.height);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

/* Mean colour of each small pixel times its weight; the fourth channel is the weight (1 - alpha). */
function shrink(rgba, grey, table, width, height, small) {
  const count = new Float32Array(small.width * small.height);
  const sums = new Float32Array(4 * count.length);
  const weights = new Float32Array(count.length);
  for (let y = 0, i = 0; y < height; y++) {
    const row = Math.floor(y * small.height / height) * small.width;
    for (let x = 0; x < width; x++, i++) {
      const at = row + Math.floor(x * small.width / width);
      for (let c = 0; c < 3; c++) sums[4 * at + c] += rgba[4 * i + c];
      weights[at] += 1 - table[grey[i]] / 255;
      count[at]++;
    }
  }
  for (let at = 0; at < count.length; at++) {
    const weight = Math.max(weights[at] / count[at], 1e-3);
    for (let c = 0; c < 3; c++) sums[4 * at + c] *= weight / count[at];
    sums[4 * at + 3] = weight;
  }
  return sums;
}

/* One pass of a Gaussian over four channels: along rows with step 1, along columns with step = width. */
function gaussian(values, width, height, sigma, step) {
  const reach = Math.ceil(3 * sigma);
  const kernel = Float32Array.from({ length: 2 * reach + 1 }, (_, k) => Math.exp(-((k - reach) ** 2) / (2 * sigma * sigma)));
  const result = new Float32Array(values.length);
  const last = (step === 1 ? width : height) - 1;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const place = step === 1 ? x : y;
      let total = 0;
      for (let k = -reach; k <= reach; k++) {
        const other = 4 * (i + (Math.min(last, Math.max(0, place + k)) - place) * step);
        const weight = kernel[k + reach];
        total += weight;
        for (let c = 0; c < 4; c++) result[4 * i + c] += weight * values[other + c];
      }
      for (let c = 0; c < 4; c++) result[4 * i + c] /= total;
    }
  }
  return result;
}
