// @ts-check
/** Elements, of which nothing is ever parsed. */

/**
 * Attributes that are functions listen to events, and what is null is left out.
 *
 * @template {Element} T
 * @param {T} element @param {Record<string, unknown>} attributes @param {(Node | string)[]} children
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (value != null) element.setAttribute(name, String(value));
  }
  element.append(...children);
  return element;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, unknown>} [attributes] @param {...(Node | string)} children
 */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/**
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag @param {Record<string, unknown>} [attributes] @param {...(Node | string)} children
 */
export const s = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

/**
 * Puts an element in its place; without numbers it has none.
 *
 * @param {Element} element @param {Record<string, number>} numbers
 */
export function put(element, numbers) {
  const whole = Object.values(numbers).every(Number.isFinite);
  element.classList.toggle('ssrnet-hidden', !whole);
  if (whole) for (const name in numbers) element.setAttribute(name, numbers[name].toFixed(2));
}

/** @param {number} value @param {number} low @param {number} high */
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
