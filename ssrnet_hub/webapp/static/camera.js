/** The picture of a camera with boxes and ages, and who is in it. */
import { h } from './dom.js';
import { follow, noCamera } from './parts.js';
import { digits } from './stages.js';

const REFUSALS = ['NotAllowedError', 'NotFoundError', 'NotReadableError', 'OverconstrainedError'];

/** @param {HTMLElement} element @param {any} props @param {any} gradio */
export function mount(element, props, { watch }) {
  const image = h('img', { class: 'ssr-frame' });
  const hint = h('p', { class: 'ssr-hint', role: 'status' });
  let refused = null;
  element.replaceChildren(image, hint);
  const again = follow(props, watch, (value, language, say) => {
    image.hidden = !value?.picture;
    hint.hidden = !image.hidden;
    hint.textContent = refused || !window.isSecureContext ? noCamera(say, refused) : say('camera hint');
    if (!value?.picture) return;
    image.src = value.picture;
    const people = value.people.map(({ person, age }) => say('person', { person, age: digits(age, 0) }));
    image.alt = people.join(say('comma')) || say('nobody');
  });

  // Gradio does not tell of a camera that it does not get
  addEventListener('unhandledrejection', (event) => {
    if (!REFUSALS.includes(event.reason?.name) || !element.offsetParent) return;
    event.preventDefault();
    refused = event.reason;
    again();
  });
}
