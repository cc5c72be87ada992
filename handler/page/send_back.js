/* Send the corrected mask to the server, with consent. It waits in the archive until a reviewer accepts it. */
const strokesKey = ({ strokes, threshold }) => JSON.stringify([strokes, threshold]);

/* Whether the current mask is corrected and not sent yet, the user consents, and the archive has the photo. */
const canSend = () => current.strokes.length > 0 && isKept(current) && $("consent").checked && current.sent !== strokesKey(current);

const sendCorrection = () => working($("send-correction"), "The mask could not be sent", async () => {
  const photo = current, key = strokesKey(photo);
  const answer = await post({ correction: await correctedMask(photo), of: photo.facts.id, archive: "yes" });
  if ((await answer.json()).archived !== "spooled") throw new Error("the server did not keep it.");
  photo.sent = key;
  say("The corrected mask was sent.");
}).then(() => { if (current) describe(); });

/* The corrected mask at the photo's size, as a PNG with one channel. */
async function correctedMask(photo) {
  const opened = await open(photo), { width, height } = photo.facts, table = maskTable(photo.threshold);
  try {
    return await maskPng(width, height, (top, rows) => {
      const layer = layerRows(photo.strokes, photo.facts, width, height, top, rows);
      return corrected(firstOfFour(pixels(opened.grey, width, height, top, rows)), layer).map((level) => table[level]);
    });
  } finally {
    release(opened.own, opened.grey);
  }
}
