/* The photos of this visit, and the queue of requests. A photo is kept as two blobs, the file and the server's
   probability, with what was set for it; only the one on show is decoded. */
const AT_ONCE = 2;                  // requests under way
const photos = [];                  // {file, options, pending, answer, facts, threshold, strokes, thumbnail}, as chosen
let queue = [];                     // those of them that were not sent yet
let asking = 0;
let batch = { photos: [], size: 0, shown: false, problems: [] };   // what was chosen since nothing was under way
let refused = [];                   // files to be sent again with an API key
let stop = new AbortController();   // of all requests under way

const answered = () => photos.filter((photo) => !photo.pending);

/* Send these files, and show the first. */
function add(files) {
  const clip = files.find(isClip);
  if (clip) sendClip(clip);
  files = files.filter((file) => !isClip(file));
  if (!files.length) return;
  if (!asking) batch = { photos: [], size: 0, shown: false, problems: [] };
  batch.size += files.length;
  refused = [];
  complain("");
  $("key-form").hidden = true;
  for (const file of files) {
    const photo = { file, options: options(), pending: true, answer: null, facts: null, threshold: 0.5, strokes: [], thumbnail: null };
    for (const list of [photos, queue, batch.photos]) list.push(photo);
  }
  sendQueue();
}

/* Ask about every photo again, for an option that changes the answer; the one on show first. What was corrected stays. */
function askAgain() {
  cancelRequests();
  queue = [...photos].sort((a, b) => (b === current) - (a === current));
  batch = { photos: [...queue], size: queue.length, shown: false, problems: [] };
  for (const photo of queue) Object.assign(photo, { options: options(), pending: true });
  complain("");
  sendQueue();
}

function cancelRequests() {
  stop.abort();
  stop = new AbortController();
  queue = [];
  asking = 0;
}

function sendQueue() {
  if (!queue.length) return;
  say("Sending to the server.");
  progress();
  for (let i = 0; i < AT_ONCE; i++) next();
}

async function next() {
  if (asking >= AT_ONCE || !queue.length) return;
  const photo = queue.shift();
  const { signal } = stop;
  asking++;
  progress();
  try {
    await segment(photo, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (photo.facts) photo.pending = false;     // the older answer stays
    else for (const list of [photos, batch.photos]) list.splice(list.indexOf(photo), 1);
    if (error.status === 401) refused.push(photo.file);
    batch.problems.push([photo.file.name, error instanceof Refusal ? error.message : "Could not display the result: " + error.message]);
  } finally {
    if (!signal.aborted) await proceed();
  }
}

/* After an answer or a refusal: show the first photo of the batch, send the next one, or say how it went. */
async function proceed() {
  const [first] = batch.photos;
  if (!batch.shown && first && !first.pending) { batch.shown = true; await show(first); }
  asking--;
  if (!asking && !queue.length) settle();
  progress();
  next();
}

/* One request with output=probability: everything on screen is drawn from its answer. The archive has the photo from
   the first time, under that request's id. */
async function segment(photo, signal) {
  const first = photo.facts;
  const [response, own] = await Promise.all([
    ask(photo.file, { output: "probability", ...photo.options, ...(first && { archive: "no" }) }, signal),
    decode(photo.file).catch(() => null),
  ]);
  const answer = await response.blob();
  const grey = await decode(answer);
  signal.throwIfAborted();
  const facts = readFacts(response.headers, grey);
  photo.answer = answer;
  photo.thumbnail = thumbnail(own || grey);
  if (!first || photo.threshold === first.threshold) photo.threshold = facts.threshold;
  photo.facts = first ? { ...facts, id: first.id, archived: first.archived } : facts;
  photo.pending = false;
  release(own, grey);
}

/* All are answered: say how it went. */
function settle() {
  const { problems, size } = batch;
  const several = size > 1 || current;          // then a problem needs the name of its photo
  if (problems.length) complain(problems.map(([name, problem]) => several ? `${name}: ${problem}` : problem).join("\n"));
  if (refused.length) { $("key-form").hidden = false; $("key").focus(); }
  if (size > 1) say(`${size - problems.length} of ${size} photos are done.`);
  else if (!problems.length) say(current.facts.found ? `Found a person: ${percent(current.facts.coverage)} of the photo.` : "No person was found in this photo.");
}

/* Stop all requests and begin with an empty page. */
function removeAll() {
  cancelRequests();
  photos.length = 0;
  leave();
  progress();
  say("All photos were removed from this page.");
  $("choose").focus();
}

function remove(photo) {
  const rest = answered();
  const at = rest.indexOf(photo);
  const neighbour = rest[at + 1] || rest[at - 1];
  if (!neighbour) return;
  photos.splice(photos.indexOf(photo), 1);
  say(`${photo.file.name} was removed from this page.`);
  progress();
  show(neighbour).then(() => document.querySelector("#photos [aria-current=true]").focus());
}

function thumbnail(image) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 112;
  const scale = Math.max(112 / image.naturalWidth, 112 / image.naturalHeight);
  const width = image.naturalWidth * scale, height = image.naturalHeight * scale;
  canvas.getContext("2d").drawImage(image, (112 - width) / 2, (112 - height) / 2, width, height);
  return canvas;
}

/* The row of thumbnails, the bar at the top, and what counts photos. */
function progress() {
  busy(asking > 0);
  const done = answered().length;
  $("title").textContent = current ? current.file.name : asking ? "Segmenting…" : "Drop photos here, or paste one";
  $("strip").hidden = photos.length < 2;
  $("remove").disabled = done < 2;
  $("download-all").hidden = done < 2;
  $("download-all").disabled = asking > 0;
  $("download-all").textContent = asking ? `${done} of ${photos.length} photos are done` : `Download all ${done} as ZIP`;
  $("photos").replaceChildren(...photos.map((photo, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "thumbnail";
    button.disabled = photo.pending;
    button.setAttribute("aria-label", `${photo.file.name}, ${index + 1} of ${photos.length}`);
    button.setAttribute("aria-current", String(photo === current));
    if (photo.thumbnail) button.append(photo.thumbnail);
    button.addEventListener("click", () => show(photo).then(() => document.querySelector("#photos [aria-current=true]").focus()));
    button.addEventListener("keydown", (event) => { if (event.key === "Delete") remove(photo); });
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}
