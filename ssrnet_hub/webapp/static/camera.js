/** The picture of a camera with boxes and ages, and who is in it. */
import { h } from './dom.js';
import { follow } from './parts.js';
import { digits } from './stages.js';

/** @param {HTMLElement} element @param {any} props @param {any} gradio */
export function mount(element, props, { watch }) {
  const image = h('img', { class: 'ssr-frame' });
  const hint = h('p', { class: 'ssr-hint' });
  element.replaceChildren(image, hint);
  follow(props, watch, (value, language, say) => {
    image.hidden = !value?.picture;
    hint.hidden = !image.hidden;
    hint.textContent = say('camera hint');
    if (!value?.picture) return;
    image.src = value.picture;
    const people = value.people.map(({ person, age }) => say('person', { person, age: digits(age, 0) }));
    image.alt = people.join(say('comma')) || say('nobody');
  });
}
