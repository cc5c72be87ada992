/* The look: the kind of result for all photos. kind: mask, cutout, overlay or composite. */
let backdrop = null;                // <img> of the chosen background picture

function look() {
  const view = chosen("view"), background = chosen("background");
  if (view !== "cutout" || background === "none" || (background === "picture" && !backdrop)) return { kind: view };
  return { kind: "composite", background, colour: $("colour").value };
}

const NAMES = { mask: "mask", cutout: "cut-out", overlay: "overlay", composite: "picture" };

/* The form fields that make the server draw this look. A background picture is drawn here, under the cut-out. */
function serverFields({ kind, background, colour }) {
  if (kind !== "composite") return { output: kind };
  if (background === "picture") return { output: "cutout" };
  return { output: "composite", background: background === "blur" ? "blur" : colour };
}

/* Rows of the background, RGBA. `blurred` is the small canvas of blur.js. */
function behindRows({ background, colour }, blurred, width, height, top, rows) {
  const pen = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
  if (background === "colour") {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, width, rows);
  } else if (background === "blur") {
    pen.imageSmoothingQuality = "high";
    pen.drawImage(blurred, 0, -top, width, height);
  } else {                          // centred and covering, like object-fit: cover
    const scale = Math.max(width / backdrop.naturalWidth, height / backdrop.naturalHeight);
    const w = backdrop.naturalWidth * scale, h = backdrop.naturalHeight * scale;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(backdrop, (width - w) / 2, (height - h) / 2 - top, w, h);
  }
  return pen.getImageData(0, 0, width, rows).data;
}
