export type Reading = import('./stages.js').Reading;
export type Say = ReturnType<typeof import('./strings.js').translator>;
/**
 * @typedef {import('./stages.js').Reading} Reading
 * @typedef {ReturnType<typeof import('./strings.js').translator>} Say
 */
/** @param {Say} say @param {number} age */
export declare const inYears: (say: Say, age: number) => string;
/** A bin in words. @param {Reading} reading @param {number} k @param {number} i @param {Say} say */
export declare function describe({ stages }: Reading, k: number, i: number, say: Say): {
    facts: {
        p: string;
        eta: string;
        delta: string;
        fixed: string;
        moved: string;
        share: string;
    };
    how: string;
    label: string;
};
/** The sum of the stages in numbers. @param {Reading} reading @param {Say} say */
export declare function equation({ stages, total, shown, age }: Reading, say: Say): string;
