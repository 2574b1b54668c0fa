/** The photo with its faces: as boxes, as cards from left to right, and the breakdown of the one that is chosen. */
import { ageBar, mountBreakdown } from './breakdown.js';
import { h } from './dom.js';
import { follow, hear } from './parts.js';
import { translator } from './strings.js';
import { inYears } from './words.js';

/** @param {HTMLElement} element @param {any} props @param {any} gradio */
export function mount(element, props, { trigger, watch }) {
  const photo = h('div', { class: 'ssr-photo' });
  const status = h('p', { class: 'ssr-status', role: 'status' });
  const cards = h('div', { class: 'ssr-faces', role: 'group' });
  const save = h('div', { class: 'ssr-save' });
  const heading = h('h2', { class: 'ssr-heading' });
  const figure = h('div', { class: 'ssr-figure' });
  const below = h('section', { class: 'ssr-below' }, heading, figure, save);
  element.classList.add('ssr-answer');
  element.replaceChildren(
    h('div', { class: 'ssr-look' }, photo, h('div', { class: 'ssr-side' }, status, cards)), below);
  let breakdown = null, chosen = 0, preview = '', seen = null, asked = 0;

  const pressed = (number) => {
    for (const button of element.querySelectorAll('[data-face]')) {
      button.setAttribute('aria-pressed', String(Number(button.dataset.face) === number));
    }
  };

  const again = follow(props, watch, (value, language, say) => {
    // an answer to an earlier question may come late
    if (!value?.picture || (value.number ?? 0) < asked) return;
    ready();
    const faces = [...value.faces].sort((a, b) => a.box[0] + a.box[2] - b.box[0] - b.box[2]);
    const words = translator(language);
    const ageOf = (face) => inYears(words, face.entries[0].face.age);
    if (seen !== value.picture) chosen = faces[0]?.number ?? 0;
    seen = value.picture;
    if (!faces.some((face) => face.number === chosen)) chosen = faces[0]?.number ?? 0;

    const choose = (number) => {
      chosen = number;
      pressed(number);
      const face = faces.find((face) => face.number === number);
      below.hidden = !face;
      if (!face) return;
      heading.textContent = say('how', { number });
      if (breakdown) breakdown.update(face.entries, { language, number });
      else breakdown = mountBreakdown(figure, face.entries, { language, number });
      const several = face.entries.length > 1;
      save.replaceChildren(
        h('a', { class: 'ssr-button', download: 'ages.jpg', href: value.picture }, say('save photo')),
        ...face.entries.flatMap(({ weights }) => ['png', 'svg'].map((kind) =>
          h('button', {
            type: 'button', class: 'ssr-button', onclick: () => trigger('save', { face: number - 1, weights, kind }),
          }, say(several ? 'save figure of' : 'save figure', { kind: kind.toUpperCase(), weights })))));
    };

    photo.replaceChildren(
      h('img', { src: value.picture, alt: say('photo'), width: value.size[0], height: value.size[1] }),
      // the largest first, so that smaller ones lie on top
      ...[...faces].sort((a, b) => a.number - b.number).map((face) => {
        const [x1, y1, x2, y2] = face.box.map((v) => 100 * Math.min(Math.max(v, 0), 1));
        return h('button', {
          type: 'button', class: 'ssr-box', tabindex: -1, 'data-face': face.number, title: say('face.label', { number: face.number, age: ageOf(face) }),
          'aria-label': say('face.label', { number: face.number, age: ageOf(face) }),
          style: `left:${x1}%;top:${y1}%;width:${x2 - x1}%;height:${y2 - y1}%`,
          onclick: () => choose(face.number),
        });
      }),
      h('div', { class: 'ssr-wait', 'aria-hidden': 'true' }, h('span', {}, say('busy'))));
    photo.style.setProperty('--ssr-ratio', String(value.size[0] / value.size[1]));
    cards.setAttribute('aria-label', say('faces'));
    cards.replaceChildren(...faces.map((face) => {
      const { face: told } = face.entries[0];
      const turned = told.turned ? say('comma') + say('rotated', { degrees: told.turned }) : '';
      const score = say('confidence', { score: `${Math.round(100 * told.score)}%` }) + turned;
      const bar = ageBar(told, { language });
      const name = say('face', { number: face.number });
      return h('button', {
        type: 'button', class: 'ssr-face', 'data-face': face.number,
        'aria-label': [name, ageOf(face), ...[...bar.querySelectorAll('p')].slice(1).map((p) => p.textContent)].join(say('semicolon')),
        onclick: () => choose(face.number),
      }, h('img', { src: face.crop, alt: '' }),
      h('span', { class: 'ssr-told' }, h('span', { class: 'ssr-name', title: score }, name), bar));
    }));
    const ages = faces.map(ageOf).join(say('comma'));
    status.textContent = !faces.length ? say('no face') : !value.all ? say('most', { count: faces.length })
      : say(faces.length > 1 ? 'found' : 'found.one', { count: faces.length, ages });
    status.classList.toggle('ssr-quiet', faces.length > 0 && value.all);
    choose(chosen);
  });

  hear('busy', (detail) => {
    preview = detail.preview;
    // until it is asked for, no answer is to it
    asked = Infinity;
    wait();
    const image = photo.querySelector('img');
    // of a format that the browser does not know, there is none
    const shown = new Image();
    shown.onload = () => {
      if (!element.classList.contains('ssr-busy') || preview !== detail.preview || !image) return;
      image.src = shown.src;
      image.width = shown.naturalWidth;
      image.height = shown.naturalHeight;
      photo.querySelectorAll('.ssr-box').forEach((box) => box.remove());
      photo.style.setProperty('--ssr-ratio', String(shown.naturalWidth / shown.naturalHeight));
      below.hidden = true;
      cards.replaceChildren();
    };
    shown.src = detail.preview;
  });
  hear('failed', () => {
    // the photo before is still the answer
    asked = props.value?.number ?? 0;
    again();
  });
  hear('ask', (number) => {
    asked = number;
    wait();
  });

  function wait() {
    element.classList.add('ssr-busy');
    element.setAttribute('aria-busy', 'true');
  }

  function ready() {
    element.classList.remove('ssr-busy');
    element.removeAttribute('aria-busy');
    if (preview) URL.revokeObjectURL(preview);
    preview = '';
  }
}
