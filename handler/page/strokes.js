/* A correction is a list of strokes {erase, radius, points: [[x, y], ...]} in pixels of the photo, so that it can be
   drawn at any size. On a layer, white is person and black is background; elsewhere the network's answer stays.
   Pure functions. */

/* Draw the strokes, the last one from its point `from`, onto a layer at `scale` of the photo. */
function drawStrokes(pen, strokes, scale, top = 0, from = 0) {
  pen.setTransform(scale.x, 0, 0, scale.y, 0, -top);
  pen.lineCap = pen.lineJoin = "round";
  strokes.forEach((stroke, index) => {
    const points = index === strokes.length - 1 ? stroke.points.slice(from) : stroke.points;
    pen.fillStyle = pen.strokeStyle = stroke.erase ? "#000" : "#fff";
    pen.lineWidth = 2 * stroke.radius;
    pen.beginPath();
    if (points.length === 1) {
      pen.arc(...points[0], stroke.radius, 0, 2 * Math.PI);
      pen.fill();
    } else {
      for (const point of points) pen.lineTo(...point);
      pen.stroke();
    }
  });
}

/* The probability corrected by a layer's RGBA: a new array, or `grey` itself without a layer. */
function corrected(grey, layer) {
  if (!layer) return grey;
  const result = new Uint8Array(grey);
  for (let i = 0, j = 0; i < grey.length; i++, j += 4) {
    if (layer[j + 3]) result[i] = Math.round(grey[i] + (layer[j] - grey[i]) * layer[j + 3] / 255);
  }
  return result;
}

/* Rows top..top+rows of a layer for a picture of width x height: RGBA, or null if no stroke touches them. */
function layerRows(strokes, facts, width, height, top, rows) {
  const scale = { x: width / facts.width, y: height / facts.height };
  const near = strokes.filter(({ points, radius }) => points.some(([, y], i) => {
    const other = points[Math.max(0, i - 1)][1];
    return (Math.max(y, other) + radius) * scale.y + 1 >= top && (Math.min(y, other) - radius) * scale.y - 1 <= top + rows;
  }));
  if (!near.length) return null;
  const pen = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
  drawStrokes(pen, near, scale, top);
  return pen.getImageData(0, 0, width, rows).data;
}
