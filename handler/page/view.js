/* The current photo, drawn on the canvas at screen size. If the browser can't decode the photo (mostly HEIC), the
   server draws the results that need its pixels. */
const SHOWN_SIDE = 1600;            // pixels: longer photos are drawn smaller on screen; downloads have full size
let current = null;                 // the current photo
let images = { own: null, grey: null };   // its <img> elements; own is null if the browser can't decode it
let shown = null;                   // at screen size: {width, height, grey, edited, rgba, layer, blurred}
let shows = 0;                      // serial number of `show`: a late one must not replace a newer one
let drawn = 0;                      // the same for drawings

const touched = () => current !== null && current.threshold !== current.facts.threshold;

async function open(photo) {
  const [own, grey] = await Promise.all([decode(photo.file).catch(() => null), decode(photo.answer)]);
  return { own, grey };
}

async function show(photo) {
  const serial = ++shows;
  const opened = await open(photo);
  if (serial !== shows) { release(opened.own, opened.grey); return; }
  release(images.own, images.grey);
  current = photo;
  images = opened;
  shown = prepare(photo, opened);
  $("threshold").value = photo.threshold;
  document.body.classList.add("worked");
  $("result").hidden = false;
  $("choose-text").textContent = "Add photos";
  $("webcam-text").textContent = "Webcam";
  const before = $("before");
  before.width = shown.width;
  before.height = shown.height;
  before.getContext("2d").putImageData(new ImageData(shown.rgba, shown.width, shown.height), 0, 0);
  if (!opened.own) { setCompare(false); setBrush(false); }
  fit();
  progress();
  redraw();
}

/* Clear the stage. */
function leave() {
  shows++;
  release(images.own, images.grey);
  images = { own: null, grey: null };
  current = shown = null;
  setCompare(false);
  setBrush(false);
  document.body.classList.remove("worked");
  $("result").hidden = true;
  $("choose-text").textContent = "Choose photos";
  $("webcam-text").textContent = "Use the webcam";
  complain("");
  command();
}

function prepare(photo, { own, grey }) {
  const { facts } = photo;
  const scale = Math.min(1, SHOWN_SIDE / Math.max(facts.width, facts.height));
  const width = Math.max(1, Math.round(facts.width * scale)), height = Math.max(1, Math.round(facts.height * scale));
  const levels = firstOfFour(pixels(grey, width, height, 0, height));
  const layer = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  const ready = { width, height, grey: levels, edited: levels, rgba: pixels(own, width, height, 0, height), layer };
  if (photo.strokes.length) correct(ready, photo);
  return ready;
}

const layerScale = (ready, { facts }) => ({ x: ready.width / facts.width, y: ready.height / facts.height });

/* Redraw all strokes of the photo into its layer, and apply it to the probability. */
function correct(ready, photo) {
  ready.layer.setTransform(1, 0, 0, 1, 0, 0);
  ready.layer.clearRect(0, 0, ready.width, ready.height);
  drawStrokes(ready.layer, photo.strokes, layerScale(ready, photo));
  ready.edited = photo.strokes.length ? corrected(ready.grey, ready.layer.getImageData(0, 0, ready.width, ready.height).data) : ready.grey;
}

function redraw() {
  if (!current) return;
  describe();
  const what = look();
  if (what.kind !== "mask" && !images.own) { drawnByServer(what); return; }
  drawn++;
  const canvas = $("canvas");
  canvas.width = shown.width;
  canvas.height = shown.height;
  shown.blurred = what.background === "blur"
    ? blurredBackground(shown.rgba, shown.edited, current.threshold, shown.width, shown.height) : null;
  redrawRows(what, 0, shown.height);
}

/* Redraw rows top..bottom after a stroke. */
function redrawRows(what, top, bottom) {
  const { width, height, edited, rgba } = shown;
  const part = rgba.slice(4 * width * top, 4 * width * bottom);
  const behind = what.kind === "composite" ? behindRows(what, shown.blurred, width, height, top, bottom - top) : null;
  blend(what.kind, current.threshold, edited.subarray(width * top, width * bottom), part, behind);
  $("canvas").getContext("2d").putImageData(new ImageData(part, width, bottom - top), 0, top);
}

async function drawnByServer(what) {
  const serial = ++drawn, photo = current;
  busy(true);
  try {
    const image = await serverPicture(photo, what);
    if (serial !== drawn) return;
    const canvas = $("canvas");
    canvas.width = shown.width;
    canvas.height = shown.height;
    const pen = canvas.getContext("2d");
    if (what.background === "picture") pen.putImageData(new ImageData(behindRows(what, null, shown.width, shown.height, 0, shown.height), shown.width, shown.height), 0, 0);
    pen.drawImage(image, 0, 0, shown.width, shown.height);
    release(image);
  } catch (error) {
    if (serial === drawn) complain(error.message);
  } finally {
    if (serial === drawn) busy(asking > 0);
  }
}
