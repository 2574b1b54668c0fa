/** The numbers of the stages, as `ssrnet_hub/inference/stages.py` has them; what they are read from may be anything. */
export type Stage = {
    p: (number | null)[];
    eta: (number | null)[];
    delta: number | null;
    width: number | null;
    contribution: number | null;
};
export type Face = {
    age: number | null;
    interval: [number, number] | null;
    doubts: string[] | null;
    stages: Stage[];
    V?: number | null;
};
export type Entry = {
    weights: string;
    face: Face;
};
export type Bin = {
    p: number;
    eta: number;
    share: number;
    shown: number;
};
export type Read = {
    bins: Bin[];
    delta: number;
    width: number;
    fixed: number;
    factor: number;
    start: number;
    contribution: number;
    shown: number;
};
export type Reading = {
    weights: string;
    age: number;
    interval: [number, number] | null;
    doubts: unknown[];
    stages: Read[];
    total: number;
    shown: number;
    V: number;
};
/** @param {unknown} value @param {number} most @returns {any[]} */
export declare const list: (value: unknown, most: number) => any[];
/** @param {number} value @param {number} places */
export declare const digits: (value: number, places: number) => string;
/** @param {number} value */
export declare const inTenths: (value: number) => string;
/** @param {number} value @param {number} [places] */
export declare const signed: (value: number, places?: number) => string;
/** @param {any} entry @returns {Reading} */
export declare function readEntry(entry: any): Reading;
/** Where a bin lies, from where its stage starts, years. @param {Read} stage @param {number} i */
export declare function placesOf({ bins, width, fixed }: Read, i: number): {
    fixed: number[];
    moved: number[];
};
/** From a to b, and exactly a or b at the ends. @param {number} a @param {number} b @param {number} t */
export declare const mix: (a: number, b: number, t: number) => number;
/**
 * What of a face is there at a time: stage k moves its bins from k to k + 1/2, and is added to the sum until k + 1.
 *
 * @param {Reading} reading @param {number} t
 * @returns {{start: number, width: number, moved: number, added: number, run: number}[]} Of each stage: the sum before
 *   it, the width of its bins, how far they have moved and are added, and the sum after it.
 */
export declare function stagesAt({ stages, V }: Reading, t: number): {
    start: number;
    width: number;
    moved: number;
    added: number;
    run: number;
}[];
