/** The words of the breakdown and of ages. Names in braces are filled in. */
export type Words = Record<string, string>;
/** @type {Record<string, Words>} */
export declare const STRINGS: Record<string, Words>;
/**
 * The words of a language; of English where there is none of it.
 *
 * @param {unknown} language A tag such as `en` or `zh-Hans`.
 * @returns {(key: string, values?: Record<string, string | number>) => string} Fills in the string of a key. A key that
 *   is not known is an empty string.
 */
export declare function translator(language: unknown): (key: string, values?: Record<string, string | number>) => string;
