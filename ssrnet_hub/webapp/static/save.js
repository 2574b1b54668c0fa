/** Saves a file that the server made. */
import { h } from './dom.js';
import { follow } from './parts.js';

/** @param {HTMLElement} element @param {any} props @param {any} gradio */
export function mount(element, props, { watch }) {
  follow(props, watch, (value) => {
    if (!value?.content) return;
    h('a', { href: value.content, download: value.name }).click();
    // the same one may be asked for again
    props.value = null;
  });
}
