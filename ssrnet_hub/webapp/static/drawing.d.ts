export type Reading = import('./stages.js').Reading;
export type Say = import('./words.js').Say;
export type Span = [number, number];
export type Place = {
    entry: number;
    stage: number;
    bin: number;
};
/** @param {number} k */
export declare const colorOf: (k: number) => string;
/**
 * What a stage of several faces is drawn on, years from where it starts.
 *
 * @param {Reading[]} readings @param {number} k @returns {Span}
 */
export declare function spanOf(readings: Reading[], k: number): Span;
/**
 * The stages of a face, each a closer look at where the ones before ended.
 *
 * @param {Reading} reading @param {number} entry @param {Span[]} spans @param {number} highest p that has room.
 * @param {number} width Pixels. @param {Say} say @param {string} label
 */
export declare function drawStages(reading: Reading, entry: number, spans: Span[], highest: number, width: number, say: Say, label: string): {
    svg: SVGSVGElement;
    draw: (t: number) => void;
    select: (place: Place | null) => void;
    nodes: SVGGElement[][];
};
/**
 * The stages added up to the ages, a row for each reading, on one axis.
 *
 * @param {Reading[]} readings @param {Span} span @param {number} width Pixels. @param {Say} say
 */
export declare function drawSum(readings: Reading[], span: Span, width: number, say: Say): {
    svg: SVGSVGElement;
    draw: (t: number) => void;
};
