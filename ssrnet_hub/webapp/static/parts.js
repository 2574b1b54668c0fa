/** What the components of the page share. Everything about photos is untrusted: text goes into text nodes. */
import { s } from './dom.js';
import { sayIn } from './say.js';

/** An icon, 20 x 20. @param {string} path */
export const icon = (path) =>
  s('svg', { viewBox: '0 0 24 24', class: 'ssr-icon', 'aria-hidden': 'true' }, s('path', { d: path }));

/** The language in which Gradio shows the page: components have it for a label. @param {any} props */
export const languageOf = (props) => (props.label === 'zh' ? 'zh' : 'en');

/** Shows what a component is told, again whenever that or the language changes. */
export function follow(props, watch, show) {
  const again = () => {
    // for screen readers, fonts, and what is no component
    document.documentElement.lang = languageOf(props) === 'zh' ? 'zh-Hans' : 'en';
    show(props.value, languageOf(props), sayIn(languageOf(props)));
  };
  watch(['value', 'label'], again);
  again();
  return again;
}

/** Why there is no camera. @param {(key: string) => string} say @param {unknown} [error] Of `getUserMedia`. */
export const noCamera = (say, error) =>
  say(`no camera.${window.isSecureContext ? error?.name : 'insecure'}`) || say('no camera');

/** What the photo and its answer tell each other: `busy`, with a preview, `ask`, with a number, and `failed`. */
export const tell = (name, detail) => dispatchEvent(new CustomEvent(`ssrnet-${name}`, { detail }));
export const hear = (name, heard) => addEventListener(`ssrnet-${name}`, (event) => heard(event.detail));
