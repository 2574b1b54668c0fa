/** The page: a photo or the camera in, every face with its age and how the network came to it out. */
import { ageBar, mountBreakdown } from '../static/breakdown.js';
import { decode, MAX_PIXELS } from './photo.js';
import { worker } from './thread.js';
import { wordsOf } from './words.js';

/** @typedef {import('./estimator.js').Face} Face */
/** @typedef {import('./track.js').Sighting} Sighting */

const MOST_DRAWN = 1600; // pixels of the longer side of a photo that is shown
const LABEL = 14; // least height of the text on a box, pixels of the page
const COLORS = ['#0067a5', '#a85400', '#00735a', '#a03d77'];

/** @template {HTMLElement} T @param {string} id @returns {T} */
const find = (id) => /** @type {T} */ (document.getElementById(id));

const input = find('input');
const status = find('status');
const answer = find('answer');
const explained = find('explained');
const list = find('faces');
const file = /** @type {HTMLInputElement} */ (find('file'));
const camera = /** @type {HTMLButtonElement} */ (find('camera'));
const language = /** @type {HTMLSelectElement} */ (find('language'));
const drawn = /** @type {HTMLCanvasElement} */ (find('drawn'));
const context = /** @type {CanvasRenderingContext2D} */ (drawn.getContext('2d'));

let say = wordsOf('en');
/** @type {[string, Record<string, string | number>?]} */
let said = [''];
/** @type {{name: string} | undefined} */
let config;
/** @type {Face[]} */
let faces = [];
let chosen = 0;
/** What is drawn below the boxes. @type {ImageBitmap | undefined} */
let shown;
let scale = 1;
/** @type {ReturnType<typeof mountBreakdown> | undefined} */
let breakdown;
/** @type {MediaStream | undefined} */
let stream;
let latest = 0; // the number of what the visitor asked for last

/** @param {string} key @param {Record<string, string | number>} [values] */
function tell(key, values) {
  said = [key, values];
  status.textContent = say(key, values);
}

/** @type {Map<number, {resolve: (reply: import('./worker.js').Reply) => void, reject: (error: Error) => void}>} */
const waiting = new Map();
let asked = 0;

worker.addEventListener('message', ({ data }) => {
  if (data.id) {
    const { resolve, reject } = /** @type {NonNullable<ReturnType<typeof waiting.get>>} */ (waiting.get(data.id));
    waiting.delete(data.id);
    if (data.error) reject(Object.assign(new Error(data.error.message), { name: data.error.name }));
    else resolve(data);
  } else if (data.error) {
    tell('other', { message: data.error.message });
  } else {
    config = data.config;
    document.body.dataset.ready = 'true';
    translate();
    if (said[0] === 'loading') tell('ready');
    // last, so that it finds what it keeps in the browser's cache
    navigator.serviceWorker?.register(new URL('../sw.js', import.meta.url), { updateViaCache: 'none' }).catch(() => {});
  }
});
worker.addEventListener('error', ({ message }) => tell('other', { message }));

/** @param {ImageBitmap} photo @param {{seconds?: number, restart?: boolean}} [more] */
function ask(photo, more) {
  const id = ++asked;
  worker.postMessage({ id, photo, ...more }, [photo]);
  return /** @type {Promise<import('./worker.js').Reply>} */ (
    new Promise((resolve, reject) => waiting.set(id, { resolve, reject }))
  );
}

/** @param {Blob} photo */
async function estimate(photo) {
  stopCamera();
  const own = ++latest;
  tell('working');
  show(undefined, []);
  try {
    const bitmap = await decode(photo, MAX_PIXELS);
    const ratio = Math.min(MOST_DRAWN / Math.max(bitmap.width, bitmap.height), 1);
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(Math.round(side * ratio), 1));
    const small = await createImageBitmap(bitmap, { resizeWidth: width, resizeHeight: height, resizeQuality: 'high' });
    if (own !== latest) return;
    [scale, faces, chosen] = [ratio, [], 0];
    show(small, []);
    const reply = await ask(bitmap);
    if (own !== latest) return;
    faces = reply.faces ?? [];
    show(small, faces);
    tell(['none', 'one'][faces.length] ?? 'found', { count: faces.length });
  } catch (error) {
    if (own !== latest) return;
    const { name, message } = /** @type {Error} */ (error);
    tell(/^Photo/.test(name) ? name : 'other', { message });
  }
}

/** @param {ImageBitmap | undefined} picture @param {Face[]} people */
function show(picture, people) {
  if (picture !== shown) shown?.close();
  shown = picture;
  faces = people;
  answer.hidden = !picture;
  find('people').hidden = explained.hidden = !faces.length;
  if (!picture) return;
  draw();
  list.replaceChildren(...faces.map(makeCard));
  explain();
}

function draw() {
  if (!shown) return;
  [drawn.width, drawn.height] = [shown.width, shown.height];
  context.drawImage(shown, 0, 0);
  faces.forEach((face, k) => drawBox(face.box, scale, k, `${k + 1}: ${inTenths(face.age)}`));
  drawn.setAttribute('aria-label', say('photo'));
}

/** @param {readonly number[]} box @param {number} ratio @param {number} number @param {string} text */
function drawBox(box, ratio, number, text) {
  const [x1, y1, x2, y2] = box.map((end) => end * ratio);
  // as large as text beside the picture, where that is shown small
  const least = (LABEL * drawn.width) / (drawn.clientWidth || drawn.width);
  const unit = Math.max(drawn.width / 50, drawn.height / 50, least);
  context.lineWidth = number === chosen && !stream ? unit / 4 : unit / 7;
  context.strokeStyle = context.fillStyle = COLORS[number % COLORS.length];
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.font = `600 ${unit}px system-ui, sans-serif`;
  const [width, height] = [context.measureText(text).width + unit * 0.6, unit * 1.4];
  const top = y1 >= height ? y1 - height : Math.min(y2, drawn.height - height);
  const left = Math.min(x1, drawn.width - width);
  context.fillRect(left, top, width, height);
  context.fillStyle = '#fff';
  context.textBaseline = 'middle';
  context.fillText(text, left + unit * 0.3, top + height / 2);
}

/** @param {number | null} age */
function inTenths(age) {
  return age === null ? '?' : age.toFixed(1);
}

/** @param {Face} face @param {number} number */
function makeCard(face, number) {
  const button = document.createElement('button');
  const picture = document.createElement('canvas');
  const { width, height } = face.crop;
  [picture.width, picture.height] = [width, height];
  picture.getContext('2d')?.putImageData(/** @type {ImageData} */ (face.crop), 0, 0);
  button.type = 'button';
  button.setAttribute('aria-pressed', String(number === chosen));
  const title = document.createElement('span');
  title.textContent = say('face', { number: number + 1 });
  button.append(picture, title, ageBar(face, { language: language.value }));
  button.addEventListener('click', () => choose(number));
  const item = document.createElement('li');
  item.append(button);
  return item;
}

/** @param {number} number */
function choose(number) {
  chosen = number;
  list.querySelectorAll('button').forEach((button, k) => button.setAttribute('aria-pressed', String(k === chosen)));
  draw();
  explain();
}

function explain() {
  const face = faces[chosen];
  if (!face) return;
  const entries = [{ weights: config?.name ?? '', face }];
  const options = { language: language.value, number: chosen + 1 };
  if (breakdown) breakdown.update(entries, options);
  else breakdown = mountBreakdown(find('breakdown'), entries, options);
}

async function startCamera() {
  const own = ++latest;
  try {
    const opened = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: 'user' } });
    if (own !== latest) {
      opened.getTracks().forEach((track) => track.stop());
      return;
    }
    stream = opened;
  } catch (error) {
    if (own === latest) tell('CameraError', { message: /** @type {Error} */ (error).message });
    return;
  }
  camera.dataset.say = 'stop';
  camera.textContent = say('stop');
  tell('live');
  show(undefined, []);
  const video = document.createElement('video');
  video.muted = video.playsInline = true;
  video.srcObject = stream;
  try {
    await video.play();
    let [restart, before] = [true, -1];
    while (own === latest) {
      // a frame at a time, none twice
      if (video.currentTime === before) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        continue;
      }
      before = video.currentTime;
      const seconds = performance.now() / 1000;
      const { photo, sightings = [] } = await ask(await createImageBitmap(video), { seconds, restart });
      restart = false;
      if (own === latest && photo) drawFrame(photo, sightings);
      photo?.close();
    }
  } catch (error) {
    if (own === latest) {
      stopCamera();
      tell('other', { message: /** @type {Error} */ (error).message });
    }
  }
}

/** @param {ImageBitmap} frame @param {Sighting[]} sightings */
function drawFrame(frame, sightings) {
  answer.hidden = false;
  if (drawn.width !== frame.width || drawn.height !== frame.height) {
    [drawn.width, drawn.height] = [frame.width, frame.height];
  }
  context.drawImage(frame, 0, 0);
  for (const { person, face, age } of sightings) drawBox(face.box, 1, person - 1, `${person}: ${inTenths(age)}`);
  // for whoever measures how many there are a second
  drawn.dataset.frame = String(Number(drawn.dataset.frame ?? 0) + 1);
  drawn.dataset.ages = sightings.map(({ age }) => inTenths(age)).join(' ');
}

function stopCamera() {
  latest++;
  stream?.getTracks().forEach((track) => track.stop());
  if (stream) show(undefined, []);
  stream = undefined;
  camera.dataset.say = 'camera';
  camera.textContent = say('camera');
  if (said[0] === 'live') tell('');
}

function translate() {
  say = wordsOf(language.value);
  document.documentElement.lang = language.value;
  for (const element of document.querySelectorAll('[data-say]')) {
    element.textContent = say(/** @type {HTMLElement} */ (element).dataset.say ?? '');
  }
  status.textContent = say(...said);
  find('about').textContent = config ? say('about', { name: config.name }) : '';
  if (!stream && shown) show(shown, faces);
}

file.addEventListener('change', () => {
  if (file.files?.[0]) estimate(file.files[0]);
  file.value = '';
});
camera.addEventListener('click', () => (stream ? stopCamera() : startCamera()));
language.addEventListener('change', translate);
drawn.addEventListener('click', ({ offsetX, offsetY }) => {
  const ratio = drawn.width / drawn.clientWidth / scale;
  const [x, y] = [offsetX * ratio, offsetY * ratio];
  const hit = faces.findLastIndex(({ box }) => box[0] <= x && x <= box[2] && box[1] <= y && y <= box[3]);
  if (hit >= 0 && !stream) choose(hit);
});
document.addEventListener('paste', ({ clipboardData }) => {
  const photo = clipboardData?.files[0];
  if (photo) estimate(photo);
});
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  input.classList.add('over');
});
document.addEventListener('dragleave', () => input.classList.remove('over'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  input.classList.remove('over');
  const photo = event.dataTransfer?.files[0];
  if (photo) estimate(photo);
});

language.value = /^zh\b/i.test(navigator.language) ? 'zh-CN' : 'en';
tell('loading', { size: document.documentElement.dataset.size ?? '' });
translate();
