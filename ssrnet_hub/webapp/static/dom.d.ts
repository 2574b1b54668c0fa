/** Elements, of which nothing is ever parsed. */
/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, unknown>} [attributes] @param {...(Node | string)} children
 */
export declare const h: <T extends keyof HTMLElementTagNameMap>(tag: T, attributes?: Record<string, unknown>, ...children: (Node | string)[]) => HTMLElementTagNameMap[T];
/**
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag @param {Record<string, unknown>} [attributes] @param {...(Node | string)} children
 */
export declare const s: <T extends keyof SVGElementTagNameMap>(tag: T, attributes?: Record<string, unknown>, ...children: (Node | string)[]) => SVGElementTagNameMap[T];
/**
 * Puts an element in its place; without numbers it has none.
 *
 * @param {Element} element @param {Record<string, number>} numbers
 */
export declare function put(element: Element, numbers: Record<string, number>): void;
/** @param {number} value @param {number} low @param {number} high */
export declare const clamp: (value: number, low: number, high: number) => number;
