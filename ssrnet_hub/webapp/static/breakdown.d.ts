export type Face = import('./stages.js').Face;
export type Entry = import('./stages.js').Entry;
export type Reading = import('./stages.js').Reading;
export type Options = {
    language?: string;
    number?: number;
    autoplay?: boolean;
};
export type Place = import('./drawing.js').Place;
/**
 * The age of a face as text, its 90% interval on an axis of 0 to 100 years, and why not to trust it.
 *
 * @param {Face} face
 * @param {{language?: string}} [options]
 * @returns {HTMLElement}
 */
export declare function ageBar(face: Face, { language }?: {
    language?: string;
}): HTMLElement;
/**
 * Shows how one or more sets of weights came to the age of a face.
 *
 * @param {HTMLElement} element Its content is replaced.
 * @param {Entry[]} entries One for each set of weights.
 * @param {Options} [options] `language` as a tag; `number` of the face, from 1; `autoplay` plays at once, unless the
 *   visitor prefers less motion.
 * @returns {{update: (entries: Entry[], options?: Options) => void, destroy: () => void}} `update` keeps the options
 *   that it is not given.
 */
export declare function mountBreakdown(element: HTMLElement, entries: Entry[], options?: Options): {
    update: (entries: Entry[], options?: Options) => void;
    destroy: () => void;
};
