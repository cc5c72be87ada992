/* The description of the current photo. */
const KEPT = { spooled: "yes", declined: "no, as asked", "sampled-out": "no", dropped: "no" };

function describe() {
  const { facts, threshold, strokes, file } = current, what = look();
  const covered = touched() || strokes.length ? coverage(shown.edited, threshold) : facts.coverage;
  $("threshold-value").textContent = threshold.toFixed(2);
  $("threshold").setAttribute("aria-valuetext", threshold.toFixed(2));
  $("reset").hidden = !touched();
  $("reset").textContent = `Reset to ${facts.threshold.toFixed(2)}`;
  $("coverage").textContent = covered > 0 ? percent(covered) : "nobody found";
  $("confidence").textContent = Number.isNaN(facts.confidence) ? "unknown" : percent(facts.confidence);
  $("size").textContent = `${facts.width} × ${facts.height}`;
  $("version").textContent = facts.version;
  $("archived").textContent = KEPT[facts.archived] || facts.archived || "no";
  $("time").textContent = facts.stages.reduce((sum, [, took]) => sum + took, 0).toFixed(0) + " ms";
  $("stages").textContent = facts.stages.map(([name, took]) => `${name} ${took.toFixed(0)}`).join(" · ");
  $("note").hidden = Boolean(images.own);
  $("note").textContent = "This browser can't display this photo format, so the server draws the cut-out and the overlay when you release the slider. The brush and the comparison need a JPEG, PNG or WebP.";
  $("compare").disabled = $("brush").disabled = !images.own;
  $("backgrounds").hidden = chosen("view") !== "cutout";
  $("colour-row").hidden = chosen("background") !== "colour";
  $("backdrop-row").hidden = chosen("background") !== "picture";
  $("canvas").setAttribute("aria-label", `${NAMES[what.kind]} of ${file.name}: ${$("coverage").textContent}`);
  $("download-text").textContent = "Download " + NAMES[what.kind];
  describeBrush();
  command();
}

function describeBrush() {
  for (const id of ["undo", "restore", "save-correction"]) $(id).disabled = !current.strokes.length;
  $("consent-row").hidden = $("send-correction").hidden = !isKept(current);
  $("send-correction").disabled = !canSend();
  $("send-correction").textContent = current.sent === strokesKey(current) ? "Sent" : "Send corrected mask";
  $("label-help").textContent = isKept(current)
    ? "A mask that is sent becomes a training label once somebody accepts it (\"humanseg archive accept\"). The downloaded mask is named after this photo's record: \"humanseg archive import-labels FOLDER\" imports it as a label."
    : "The server did not archive this photo, so its corrected mask can't become a label.";
}

function quote(word) { return /^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'"; }

/* The curl command for the current picture, without corrections and background picture. */
function command() {
  const what = look(), fields = serverFields(what);
  const words = ["curl -sS"];
  if (key) words.push('-H "Authorization: Bearer $KEY"');
  words.push("-F " + quote("image=@" + (current ? current.file.name : "photo.jpg")));
  if (touched()) fields.threshold = current.threshold;
  if (fields.output === "mask") delete fields.output;
  for (const [name, value] of Object.entries({ ...fields, ...options() })) words.push("-F " + quote(`${name}=${value}`));
  words.push(quote(here), "-o " + quote(current ? fileName(current, what) : what.kind + ".png"));
  $("curl").textContent = words.join(" ");
}
