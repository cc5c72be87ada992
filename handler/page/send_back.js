/* The corrected mask back to the server, with consent: there it waits in the archive until a person accepts it. */
const strokesKey = ({ strokes, threshold }) => JSON.stringify([strokes, threshold]);

/* Whether the mask on show is corrected, may be sent, and was not sent like this. The archive must have its photo. */
const canSend = () => current.strokes.length > 0 && isKept(current) && $("consent").checked && current.sent !== strokesKey(current);

const sendCorrection = () => working($("send-correction"), "The mask could not be sent", async () => {
  const photo = current, key = strokesKey(photo);
  const answer = await post({ correction: await correctedMask(photo), of: photo.facts.id, archive: "yes" });
  if ((await answer.json()).archived !== "spooled") throw new Error("the server did not keep it.");
  photo.sent = key;
  say("The corrected mask was sent.");
}).then(() => { if (current) describe(); });

/* At the photo's own size, as a PNG of one channel. */
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
