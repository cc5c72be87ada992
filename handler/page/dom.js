/* Shared helpers: elements by id, and messages. */
const $ = (id) => document.getElementById(id);
const percent = (share) => (100 * share).toFixed(share > 0 && share < 0.1 ? 2 : 1) + " %";
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const stem = (name) => name.replace(/\.[^.]*$/, "") || "photo";

/* Announce to screen readers. */
function say(sentence) { $("status").textContent = sentence; }

function complain(sentence) {
  $("error").hidden = !sentence;
  $("error-text").textContent = sentence;
}

function busy(on) {
  $("busy").hidden = !on;
  $("stage").setAttribute("aria-busy", String(on));
}

/* An <img> of a blob. The browser applies the EXIF orientation. Rejects if it can't show the format. */
function decode(blob) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    const url = URL.createObjectURL(blob);
    image.onload = () => resolve(image);
    image.onerror = () => { URL.revokeObjectURL(url); reject(new Error("not shown by this browser")); };
    image.src = url;
  });
}

function release(...images) {
  for (const image of images) if (image) URL.revokeObjectURL(image.src);
}
