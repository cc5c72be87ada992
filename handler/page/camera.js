/* Take one photo with the webcam. */
let stream = null;

async function openCamera() {
  complain("");
  if (!navigator.mediaDevices?.getUserMedia) {
    complain("The webcam works only on localhost or over HTTPS. Choose a photo instead.");
    return;
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" }, audio: false });
  } catch (error) {
    complain({
      NotAllowedError: "The browser blocked the webcam. Allow it in the address bar, or choose a photo.",
      NotFoundError: "No webcam found. Choose a photo instead.",
    }[error.name] || `Could not open the webcam (${error.message}). Choose a photo instead.`);
    return;
  }
  $("video").srcObject = stream;
  $("camera").showModal();
}

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("video").srcObject = null;
  $("snap").disabled = true;
  if ($("camera").open) $("camera").close();
}

async function snap() {
  const video = $("video");
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  closeCamera();
  add([new File([blob], "webcam.jpg", { type: "image/jpeg" })]);
}
