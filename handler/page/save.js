/* Save pictures: as a file, as a ZIP, to the clipboard, or the corrected mask. */
const fileName = (photo, what) => `${stem(photo.file.name)}-${what.kind === "composite" ? "picture" : what.kind}.png`;

function saveAs(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  say(`Saved ${name}.`);
}

/* Run `task` with the button disabled, and show its error. */
async function working(button, failure, task) {
  const focused = document.activeElement === button;
  button.disabled = true;
  complain("");
  try {
    await task();
  } catch (error) {
    complain(`${failure}: ${error.message}`);
  } finally {
    button.disabled = false;
    if (focused) button.focus();
  }
}

const savePicture = () => working($("download"), "Could not save the picture", async () => {
  const photo = current, what = look();
  saveAs(fileName(photo, what), await fullSize(photo, what));
});

const saveAll = () => working($("download-all"), "Could not create the ZIP", async () => {
  const all = answered(), what = look(), names = distinct(all.map((photo) => fileName(photo, what)));
  const label = $("download-all").textContent;
  const entries = [];
  try {
    for (const [index, photo] of all.entries()) {
      $("download-all").textContent = `Picture ${index + 1} of ${all.length}…`;
      entries.push({ name: names[index], blob: await fullSize(photo, what) });
    }
    saveAs("photos.zip", await zip(entries));
  } finally {
    $("download-all").textContent = label;
  }
});

const copyPicture = () => working($("copy-picture"), "Could not copy the picture", async () => {
  if (!navigator.clipboard?.write) throw new Error("this works only on localhost or over https.");
  // A promise, because Safari rejects a blob that is created after the click.
  await navigator.clipboard.write([new ClipboardItem({ "image/png": fullSize(current, look()) })]);
  $("copy-picture").textContent = "Copied";
  setTimeout(() => { $("copy-picture").textContent = "Copy to clipboard"; }, 1500);
  say("The picture is on the clipboard.");
});

/* The file name is the record's id, which `humanseg archive import-labels` reads. */
const saveCorrection = () => working($("save-correction"), "Could not save the mask", async () => {
  saveAs(correctionName(current), await fullSize(current, { kind: "mask" }));
});

const isKept = (photo) => photo.facts.archived === "spooled" && photo.facts.id !== "";

function correctionName(photo) {
  return isKept(photo) ? `${photo.facts.id}.png` : `${stem(photo.file.name)}-corrected-mask.png`;
}
