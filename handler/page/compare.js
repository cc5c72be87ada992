/* Before and after: the original over the result, clipped at a line that a slider moves. */
const THUMB = 44;                   // pixels, as in stage.css

function setCompare(on) {
  $("compare").setAttribute("aria-pressed", String(on));
  $("split").hidden = $("before").hidden = !on;
  if (on) { setBrush(false); placeSplit(); }
}

const comparing = () => $("compare").getAttribute("aria-pressed") === "true";

/* The line spans the visible part of the picture at any zoom. */
function placeSplit() {
  if (!comparing() || !current) return;
  const box = pictureBox(), stage = $("stage");
  const left = Math.max(0, box.left), right = Math.min(stage.clientWidth, box.left + box.width);
  const top = Math.max(0, box.top), bottom = Math.min(stage.clientHeight, box.top + box.height);
  const at = left + (right - left) * $("divider").value / 100;
  $("before").style.clipPath = `inset(0 ${100 - 100 * (at - box.left) / box.width}% 0 0)`;
  const { style: line } = $("line"), { style: range } = $("divider");
  line.left = at + "px";
  line.top = top + "px";
  line.height = bottom - top + "px";
  range.left = left - THUMB / 2 + "px";           // the thumb's middle, not its edge, reaches both ends
  range.width = right - left + THUMB + "px";
  range.top = (top + bottom - THUMB) / 2 + "px";
  const [before, after] = document.querySelectorAll("#split .tag");
  before.style.left = left + 10 + "px";
  after.style.right = stage.clientWidth - right + 10 + "px";
  before.style.top = after.style.top = top + 10 + "px";
  $("divider").setAttribute("aria-valuetext", `${Math.round($("divider").value)} % before`);
}
