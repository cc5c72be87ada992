/* Pointers, wheel and keys on the stage: one finger paints or moves the picture, two zoom. */
const pointers = new Map();         // id to {x, y} in client pixels

function inStage({ x, y }) {
  const box = $("stage").getBoundingClientRect();
  return { x: x - box.left, y: y - box.top };
}

function pointerDown(event) {
  if (!current || event.button > 0 || event.target.id === "divider") return;
  $("stage").setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  if (pointers.size > 1) cancelStroke();
  else if (painting()) { moveTip(onPhoto(event)); beginStroke(onPhoto(event)); }
}

function pointerMove(event) {
  if (!current) return;
  const old = pointers.get(event.pointerId);
  if (painting() && pointers.size < 2) moveTip(onPhoto(event));
  if (!old) return;
  const now = { x: event.clientX, y: event.clientY };
  if (pointers.size === 2) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const middle = (one) => ({ x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 });
    const distance = (one) => Math.max(1, Math.hypot(one.x - other.x, one.y - other.y));
    moveBy(middle(now).x - middle(old).x, middle(now).y - middle(old).y);
    zoomBy(distance(now) / distance(old), inStage(middle(now)));
  } else if (stroke) {
    for (const one of event.getCoalescedEvents?.() || [event]) growStroke(onPhoto(one));
  } else if (pointers.size === 1 && zoom.scale > 1 && !painting()) {
    moveBy(now.x - old.x, now.y - old.y);
  }
  pointers.set(event.pointerId, now);
}

function pointerUp(event) {
  if (!pointers.delete(event.pointerId)) return;
  endStroke();
}

function wheel(event) {
  if (!current || (zoom.scale === 1 && event.deltaY > 0)) return;   // nothing to zoom out of: the page scrolls
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : 1;
  zoomBy(Math.exp(-Math.max(-200, Math.min(200, event.deltaY * lines)) / 400), inStage({ x: event.clientX, y: event.clientY }));
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function stageKey(event) {
  if (!current || event.ctrlKey || event.metaKey || event.altKey || event.target.id === "divider") return;
  const arrow = ARROWS[event.key];
  const act = {
    "+": () => zoomBy(STEP), "=": () => zoomBy(STEP), "-": () => zoomBy(1 / STEP), "0": fit,
    ...(painting() && { " ": dot, "[": () => resizeBrush(0.8), "]": () => resizeBrush(1.25), x: switchBrush, X: switchBrush }),
    ...(arrow && { [event.key]: () => painting() ? stepTip(...arrow, event.shiftKey) : moveBy(-40 * arrow[0], -40 * arrow[1]) }),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}
