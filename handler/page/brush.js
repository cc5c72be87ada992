/* The brush: strokes that correct the mask of the current photo. */
let stroke = null;                  // the stroke in progress
let tip = null;                     // position of the brush in pixels of the photo: [x, y]

const painting = () => $("brush").getAttribute("aria-pressed") === "true";

function setBrush(on) {
  endStroke();
  tip = null;
  $("brush").setAttribute("aria-pressed", String(on));
  $("brush").setAttribute("aria-expanded", String(on));
  $("brush-bar").hidden = !on;
  $("stage").classList.toggle("painting", on);
  $("stage-help").textContent = on ? $("brush-help").textContent : "Plus and minus zoom, 0 fits, arrow keys move the picture.";
  placeTip();
  if (!on) return;
  setCompare(false);
  if (chosen("view") === "mask") {  // missing parts are visible only on the photo
    document.querySelector("input[name=view][value=overlay]").checked = true;
    redraw();
  }
}

/* Photo pixels per screen pixel. */
const photoScale = () => current.facts.width / $("canvas").getBoundingClientRect().width;

function onPhoto(event) {
  const box = $("canvas").getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * current.facts.width, (event.clientY - box.top) / box.height * current.facts.height];
}

function beginStroke(point) {
  stroke = { erase: chosen("brush") === "erase", radius: $("brush-size").value / 2 * photoScale(), points: [point] };
  current.strokes.push(stroke);
  paint(0);
}

function growStroke(point) {
  stroke.points.push(point);
  paint(stroke.points.length - 2);
}

function endStroke() {
  if (!stroke) return;
  stroke = null;
  correct(shown, current);          // once for the whole stroke, like downloads
  redraw();
}

/* A second finger started a pinch: discard the stroke. */
function cancelStroke() {
  if (!stroke) return;
  stroke = null;
  undo();
}

/* Draw the last stroke from its point `from`, and only the rows that it touches. */
function paint(from) {
  const scale = layerScale(shown, current), added = stroke.points.slice(from).map(([, y]) => y);
  drawStrokes(shown.layer, [stroke], scale, 0, from);
  const top = Math.max(0, Math.floor((Math.min(...added) - stroke.radius) * scale.y) - 1);
  const bottom = Math.min(shown.height, Math.ceil((Math.max(...added) + stroke.radius) * scale.y) + 1);
  if (top >= bottom) return;
  if (shown.edited === shown.grey) shown.edited = new Uint8Array(shown.grey);
  const rows = shown.grey.subarray(shown.width * top, shown.width * bottom);
  shown.edited.set(corrected(rows, shown.layer.getImageData(0, top, shown.width, bottom - top).data), shown.width * top);
  redrawRows(look(), top, bottom);
}

function undo() {
  if (!current?.strokes.length) return;
  current.strokes.pop();
  correct(shown, current);
  redraw();
}

function discardStrokes() {
  current.strokes = [];
  correct(shown, current);
  redraw();
  $("stage").focus();               // the button with the focus is now disabled
}

/* The circle that shows the brush's position and size. */
function placeTip() {
  const visible = painting() && tip !== null && current !== null;
  $("tip").hidden = !visible;
  if (!visible) return;
  const box = pictureBox(), { style } = $("tip");
  style.left = box.left + tip[0] / current.facts.width * box.width + "px";
  style.top = box.top + tip[1] / current.facts.height * box.height + "px";
  style.width = style.height = $("brush-size").value + "px";
}

function moveTip(point) { tip = point; placeTip(); }

/* Keyboard: an arrow key moves the brush by a quarter of its size; with Shift it paints. */
function stepTip(x, y, paints) {
  const step = Math.max(1, $("brush-size").value / 4) * photoScale();
  const { width, height } = current.facts;
  const from = tip || [width / 2, height / 2];
  const to = [Math.min(width, Math.max(0, from[0] + x * step)), Math.min(height, Math.max(0, from[1] + y * step))];
  if (paints) { beginStroke(from); growStroke(to); endStroke(); }
  moveTip(to);
}

function dot() {
  if (!tip) moveTip([current.facts.width / 2, current.facts.height / 2]);
  beginStroke(tip);
  endStroke();
}

function resizeBrush(factor) {
  $("brush-size").value = Math.round($("brush-size").value * factor);
  placeTip();
}

function switchBrush() {
  document.querySelector(`input[name=brush][value=${chosen("brush") === "add" ? "erase" : "add"}]`).checked = true;
  say(chosen("brush") === "add" ? "The brush adds." : "The brush erases.");
}
