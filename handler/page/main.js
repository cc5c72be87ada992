/* Event listeners. */
const on = (id, event, act) => $(id).addEventListener(event, act);

// input
on("choose", "click", () => $("file").click());
on("file", "change", () => { add([...$("file").files]); $("file").value = ""; });
on("webcam", "click", openCamera);
on("video", "loadeddata", () => { $("snap").disabled = false; $("snap").focus(); });
on("snap", "click", snap);
on("camera-close", "click", closeCamera);
on("camera", "close", closeCamera);
on("key-form", "submit", (event) => { event.preventDefault(); key = $("key").value.trim(); add(refused); });
on("remove", "click", () => remove(current));
on("remove-all", "click", removeAll);
document.querySelectorAll("[data-option]").forEach((option) => option.addEventListener("change", () => {
  command();
  if (option.name !== "archive") askAgain();
}));
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files], pictures = files.filter((file) => /^(image|video)\//.test(file.type));
  if (pictures.length) { event.preventDefault(); add(pictures); } else if (files.length) complain("The clipboard contains no picture.");
});
let depth = 0;
document.addEventListener("dragenter", (event) => { event.preventDefault(); depth++; document.body.classList.add("dropping"); });
document.addEventListener("dragleave", () => { if (--depth <= 0) document.body.classList.remove("dropping"); });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("dropping");
  const files = [...event.dataTransfer.files];
  if (files.length) add(files); else complain("You did not drop a file. Save the picture first, then drop it here.");
});

// the look
let frame = 0;
on("threshold", "input", () => {
  current.threshold = Number($("threshold").value);
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(images.own || look().kind === "mask" ? redraw : describe);
});
on("threshold", "change", () => { if (!images.own && look().kind !== "mask") redraw(); });
on("reset", "click", () => {
  current.threshold = current.facts.threshold;
  $("threshold").value = current.threshold;
  redraw();
  $("threshold").focus();
});
document.querySelectorAll("input[name=view], input[name=background]").forEach((radio) => radio.addEventListener("change", redraw));
on("colour", "input", () => { if (images.own) redraw(); });
on("colour", "change", () => { if (!images.own) redraw(); });
on("backdrop-choose", "click", () => $("backdrop-file").click());
on("backdrop-file", "change", async () => {
  const file = $("backdrop-file").files[0];
  $("backdrop-file").value = "";
  if (!file) return;
  try {
    const picture = await decode(file);
    release(backdrop);
    backdrop = picture;
    $("backdrop-name").textContent = file.name;
    complain("");
    redraw();
  } catch {
    complain(`This browser can't display ${file.name}. Choose a JPEG, PNG or WebP as the background.`);
  }
});

// the stage
on("compare", "click", () => setCompare(!comparing()));
on("divider", "input", placeSplit);
on("brush", "click", () => setBrush(!painting()));
on("brush-size", "input", placeTip);
on("undo", "click", () => { undo(); if ($("undo").disabled) $("stage").focus(); });
on("restore", "click", discardStrokes);
on("save-correction", "click", saveCorrection);
on("consent", "change", () => describe());
on("send-correction", "click", sendCorrection);
on("zoom-in", "click", () => zoomBy(STEP));
on("zoom-out", "click", () => zoomBy(1 / STEP));
on("zoom-fit", "click", fit);
on("stage", "pointerdown", pointerDown);
on("stage", "pointermove", pointerMove);
on("stage", "pointerup", pointerUp);
on("stage", "pointercancel", pointerUp);
on("stage", "pointerleave", () => { if (!stroke && document.activeElement !== $("stage")) moveTip(null); });
on("stage", "keydown", stageKey);
$("stage").addEventListener("wheel", wheel, { passive: false });
new ResizeObserver(() => { if (current) setZoom(zoom.scale, zoom.x, zoom.y); }).observe($("stage"));
document.addEventListener("keydown", (event) => {
  if (!painting() || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.key.toLowerCase() !== "z") return;
  event.preventDefault();
  undo();
});

// a clip
document.querySelectorAll("input[name=clip-view]").forEach((radio) => radio.addEventListener("change", () => sendClip(clip.file)));
on("clip-close", "click", closeClip);

// output
on("download", "click", savePicture);
on("download-all", "click", saveAll);
on("copy-picture", "click", copyPicture);
on("api", "click", () => working($("api"), "Could not save the description", async () => {
  saveAs("openapi.yaml", await (await fetch(here, { headers: { accept: "application/yaml" } })).blob());
}));
on("copy", "click", async () => {
  try { await navigator.clipboard.writeText($("curl").textContent); $("copy").textContent = "Copied"; } catch { getSelection().selectAllChildren($("curl")); $("copy").textContent = "Selected"; }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
});
command();
