/* A clip: the server makes it, is asked meanwhile how far it is, and the browser plays the result. */
const POLL = 700;                   // milliseconds between two questions
const MOST = 64e6;                  // bytes: above, TorchServe closes the connection without a reason
const clip = { file: null, request: null };

function isClip(file) { return file.type.startsWith("video/") || /\.(mp4|m4v|mov|webm|mkv|avi)$/i.test(file.name); }

/* By its first bytes, as the server tells: JPEG, PNG, GIF or WebP. */
async function isPhoto(file) {
  const start = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  return /^(\xff\xd8\xff|\x89PNG|GIF8|RIFF[^]{4}WEBP)/.test(start);
}

async function sendClip(file) {
  clip.request?.abort();
  const request = clip.request = new AbortController();
  const kind = chosen("clip-view");
  const token = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  clip.file = file;
  complain("");
  playClip(null);
  $("clip").hidden = $("clip-work").hidden = false;
  $("clip-name").textContent = file.name;
  $("clip-bar").removeAttribute("value");
  $("clip-frames").textContent = "The clip is being sent";
  say("The clip is being sent.");
  const timer = setInterval(() => howFar(token, request.signal), POLL);
  try {
    if (await isPhoto(file)) throw new Refusal("This is a photo under the name of a clip. Rename it, then choose it again.", 0);
    if (file.size > MOST) {
      const ending = kind === "cutout" ? "webm" : "mp4";
      throw new Refusal(`The clip has ${Math.ceil(file.size / 1e6)} MB; the limit is 64 MB. Run: humanseg segment clip.mp4 -o out.${ending} --output ${kind}`, 0);
    }
    const answer = await ask(file, { output: kind, progress: token }, request.signal);
    const result = await answer.blob();
    playClip(result, `${stem(file.name)}-${kind}.${result.type.includes("webm") ? "webm" : "mp4"}`);
    say(`The clip is done: ${answer.headers.get("x-frames")} frames.`);
    if (answer.headers.get("x-warning")) complain(answer.headers.get("x-warning"));
  } catch (error) {
    if (error.name === "AbortError") return;
    $("clip").hidden = true;
    complain(`${file.name}: ${error.message}`);
    if (error.status === 401) { refused = [file]; $("key-form").hidden = false; $("key").focus(); }
  } finally {
    clearInterval(timer);
    if (clip.request === request) $("clip-work").hidden = true;
  }
}

async function howFar(token, signal) {
  const form = new FormData();
  form.append("progress", token);
  try {
    const answer = await fetch(here, { method: "POST", body: form, signal, headers: key ? { Authorization: "Bearer " + key } : {} });
    const { state, frames, of } = await answer.json();
    if (state !== "working" || signal.aborted) return;
    if (of) { $("clip-bar").max = of; $("clip-bar").value = Math.min(frames, of); }
    $("clip-frames").textContent = of ? `${frames} of ${of} frames` : `${frames} frames`;
  } catch { /* the answer to the clip itself says what is wrong */ }
}

/* Show a result, or with null none. */
function playClip(result, name) {
  const player = $("clip-player"), link = $("clip-download");
  if (player.src) URL.revokeObjectURL(player.src);
  player.removeAttribute("src");
  player.hidden = link.hidden = !result;
  if (!result) return;
  player.src = link.href = URL.createObjectURL(result);
  link.download = name;
}

function closeClip() {
  clip.request?.abort();
  playClip(null);
  $("clip").hidden = true;
  $("choose").focus();
}
