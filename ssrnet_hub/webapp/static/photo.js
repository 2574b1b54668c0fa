/** The bar: a photo by upload, drop, paste, or camera, or one of the examples. Its value says which photo. */
import './early.js'; // the page may not have run it yet: Gradio inserts scripts without an order
import { h } from './dom.js';
import { follow, hear, icon, noCamera, tell } from './parts.js';
import { exampleName } from './say.js';

const UPLOAD = 'M12 16V4m0 0L7 9m5-5 5 5M4 16v3a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-3';
const PASTE = 'M9 4h6v3H9zM9 5H6v15h12V5h-3';
const CAMERA = 'M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7z';

/** @param {HTMLElement} element @param {any} props @param {any} gradio */
export function mount(element, props, { watch, upload }) {
  let taken = 0;
  let say = (/** @type {string} */ key) => key;

  /** A photo, whatever type the browser takes it for: the server looks at what is in it. @param {File} file */
  async function take(file) {
    const number = ++taken;
    tell('busy', { preview: URL.createObjectURL(file) });
    try {
      const { path } = await upload(file);
      // of several, the last one counts
      if (number === taken) choose({ path, orig_name: file.name, meta: { _type: 'gradio.FileData' } });
    } catch (error) {
      if (number === taken) tell('failed', {});
    }
  }

  // the number makes it another value even for the same photo
  function choose(photo) {
    props.value = { ...photo, number: ++taken };
    again();
  }

  const visible = () => element.offsetParent !== null;
  const input = h('input', {
    type: 'file', accept: ['image/*', ...props.suffixes].join(), hidden: '', tabindex: -1,
    onchange: () => {
      const [file] = input.files;
      if (file) take(file);
      input.value = '';
    },
  });
  const note = h('p', { class: 'ssr-note', role: 'alert', hidden: '' });

  /** @param {string} text */
  function warn(text) {
    note.textContent = text;
    note.hidden = !text;
  }

  async function paste() {
    warn('');
    let items;
    try {
      items = await navigator.clipboard.read();
    } catch {
      return warn(say('no clipboard'));
    }
    for (const item of items) {
      const type = item.types.find((type) => type.startsWith('image/'));
      if (type) return take(new File([await item.getType(type)], `pasted.${type.slice(6)}`, { type }));
    }
    warn(say('clipboard'));
  }

  async function snap() {
    warn('');
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1280, facingMode: 'user' } });
    } catch (error) {
      return warn(noCamera(say, error));
    }
    const video = h('video', { autoplay: '', muted: '', playsinline: '' });
    video.srcObject = stream;
    const shoot = () => {
      const canvas = h('canvas', { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext('2d').drawImage(video, 0, 0);
      canvas.toBlob((blob) => take(new File([blob], 'camera.jpg', { type: 'image/jpeg' })), 'image/jpeg', 0.92);
      dialog.close();
    };
    const capture = h('button', { type: 'button', class: 'ssr-button ssr-primary', disabled: '', onclick: shoot }, say('capture'));
    const cancel = h('button', { type: 'button', class: 'ssr-button', onclick: () => dialog.close() }, say('cancel'));
    const dialog = h('dialog', { class: 'ssr-dialog', 'aria-label': say('camera') }, video, h('div', {}, capture, cancel));
    video.onloadeddata = () => {
      capture.disabled = false;
      capture.focus();
    };
    dialog.onclose = () => {
      stream.getTracks().forEach((track) => track.stop());
      dialog.remove();
    };
    element.append(dialog);
    dialog.showModal();
  }

  function button(name, path, act, primary) {
    const wide = primary ? 'ssr-button ssr-primary' : 'ssr-button';
    return h('button', { type: 'button', class: wide, onclick: act }, icon(path), h('span', {}, say(name)));
  }

  const again = follow(props, watch, (value, language, words) => {
    say = words;
    const chosen = value?.example;
    const examples = props.examples.map(({ name, picture }, example) =>
      h('button', {
        type: 'button', class: 'ssr-example', 'aria-pressed': String(example === chosen),
        'aria-label': say('example', { name: exampleName(name, language) }), title: exampleName(name, language),
        onclick: () => {
          tell('busy', { preview: picture });
          choose({ example });
        },
      }, h('img', { src: picture, alt: '' })));
    const focused = element.contains(document.activeElement) && document.activeElement.getAttribute('aria-label');
    element.replaceChildren(
      h('div', { class: 'ssr-bar' },
        input,
        button('upload', UPLOAD, () => input.click(), true),
        button('paste', PASTE, paste),
        button('camera', CAMERA, snap),
        h('div', { class: 'ssr-examples', role: 'group', 'aria-label': say('examples') }, ...examples)),
      h('p', { class: 'ssr-invite', hidden: chosen === undefined ? '' : null }, say('invite')),
      note);
    if (focused) examples.find((it) => it.getAttribute('aria-label') === focused)?.focus();
  });

  hear('busy', () => warn(''));
  document.addEventListener('paste', (event) => {
    const file = [...event.clipboardData.files].find((file) => file.type.startsWith('image/'));
    if (file && visible()) take(file);
  });
  window.ssrnet.onDrop((file) => visible() && take(file));
}
