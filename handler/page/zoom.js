/* Zoom: scales and moves the plane with the pictures inside the stage. Scale 1 fits. */
const STEP = 1.3;
const zoom = { scale: 1, x: 0, y: 0 };    // x, y: offset of the plane in screen pixels

/* The maximum scale: 8 screen pixels per photo pixel, but at least 4. */
const largest = () => Math.max(4, 8 * current.facts.width / $("plane").offsetWidth);

function fit() { setZoom(1, 0, 0); }

/* Zoom by `factor` around a point of the stage, by default its centre. */
function zoomBy(factor, at) {
  if (!current) return;
  const stage = $("stage"), plane = $("plane");
  const point = at || { x: stage.clientWidth / 2, y: stage.clientHeight / 2 };
  const scale = Math.min(largest(), Math.max(1, zoom.scale * factor));
  const ratio = scale / zoom.scale;
  const left = plane.offsetLeft, top = plane.offsetTop;
  setZoom(scale, point.x - left - (point.x - left - zoom.x) * ratio, point.y - top - (point.y - top - zoom.y) * ratio);
}

function moveBy(x, y) { setZoom(zoom.scale, zoom.x + x, zoom.y + y); }

function setZoom(scale, x, y) {
  const stage = $("stage"), plane = $("plane");
  zoom.scale = scale;
  zoom.x = bounded(x, plane.offsetLeft, plane.offsetWidth * scale, stage.clientWidth);
  zoom.y = bounded(y, plane.offsetTop, plane.offsetHeight * scale, stage.clientHeight);
  plane.style.transform = scale === 1 ? "" : `translate(${zoom.x}px, ${zoom.y}px) scale(${scale})`;
  plane.classList.toggle("sharp", current !== null && plane.offsetWidth * scale > 2 * shown.width);
  stage.classList.toggle("zoomed", scale > 1);
  const reading = scale === 1 ? "Fit" : `${Math.round(100 * scale)} %`;
  $("zoom-fit").textContent = reading;
  $("zoom-fit").setAttribute("aria-label", scale === 1 ? "Fit the picture" : `${reading}, fit the picture`);
  placeSplit();
  placeTip();
}

/* Keep a picture larger than the stage without gaps at its edges, and centre a smaller one. */
function bounded(move, start, size, room) {
  if (size <= room) return (room - size) / 2 - start;
  return Math.min(-start, Math.max(room - size - start, move));
}

/* The picture's rectangle inside the stage, in its pixels. */
function pictureBox() {
  const box = $("canvas").getBoundingClientRect(), stage = $("stage").getBoundingClientRect();
  return { left: box.left - stage.left - $("stage").clientLeft, top: box.top - stage.top - $("stage").clientTop, width: box.width, height: box.height };
}
