// @ts-check
/** The words of the breakdown and of ages. Names in braces are filled in. */

/** @typedef {Record<string, string>} Words */

/** @type {Words} */
const en = {
  lang: 'en',
  intro:
    'The network decides in {stages}, each finer than the one before. Each stage weighs a few bins of years (p), \
shifts them (η), and resizes them (δ): weight × place of every bin, added up, is the age.',
  'intro.one':
    'The network decides in one stage: it gives every bin of years a weight (p). Weight × place of every bin, \
added up, is the age.',
  'stages.several': 'several stages',
  'stages.2': 'two stages',
  'stages.3': 'three stages',
  'stages.4': 'four stages',
  play: 'Play',
  pause: 'Pause',
  slider: 'From the fixed grid to the age',
  grid: 'Fixed grid: nothing has moved yet',
  moving: 'Stage {k}: bins shift (η) and resize (δ)',
  'moving.one': 'Bins shift (η) and resize (δ)',
  adding: 'Stage {k}: adding up p × place',
  'adding.one': 'Adding up p × place',
  sum: '{sum} = {total}',
  clamped: '{sum} = {total}, out of range and shown as {age}',
  stage: 'Stage {k}',
  coarse: 'coarse',
  finer: 'finer',
  finest: 'finest',
  figure: 'Face {number}',
  'figure.weights': 'Face {number} · {weights}',
  'figure.keys': 'Use the arrow keys to move between bins.',
  done: 'All stages are added up',
  axis: 'The stages added up, years',
  bin: 'Stage {k}, bin {i}',
  'bin.short': 'bin {i}',
  'bin.label': 'bin {i} {share}, stage {k}; p {p}; fixed grid {fixed}; after η and δ {moved}',
  hint: 'Point at a bin, tap it, or use the arrow keys.',
  p: 'p',
  eta: 'η',
  delta: 'δ',
  fixed: 'Fixed grid',
  moved: 'After η and δ',
  share: 'Share',
  'share.first': '{p} × {place} =',
  'share.later': '{p} × ({place} − {start}) =',
  range: '{low} to {high} years',
  years: '{age} years',
  'no age': 'No age: the network returned no number',
  'no stages': 'These weights have no stages in years.',
  interval: '90% interval: {low} to {high} years',
  'interval.label': '{age}; 90% interval {low} to {high} years, on an axis from 0 to 100 years',
  'interval.none': '{age}, on an axis from 0 to 100 years',
  doubts: 'Not reliable: {reasons}',
  'doubts.unknown': 'Not reliable',
  'doubts.separator': ', ',
  'doubt.blurred': 'blurred',
  'doubt.small': 'small face',
  'doubt.covered': 'partly covered',
  'doubt.turned': 'upside down or rotated',
  'doubt.profile': 'in profile',
  'doubt.cut off': 'cut off by the edge of the photo',
  'doubt.not a face': 'may not be a face',
  'doubt.uncertain': 'large expected error',
};

/** @type {Words} */
const zh = {
  lang: 'zh-Hans',
  intro:
    '网络分{stages}由粗到细估计年龄：每个阶段给少数几个分箱（bin）分配权重 p，再让它们平移（η）、伸缩（δ）。\
把所有分箱的“权重 × 位置”加起来，就是年龄。',
  'intro.one': '网络一步得出年龄：给年龄轴上的每个分箱（bin）分配权重 p，再把所有分箱的“权重 × 位置”加起来。',
  'stages.several': '多个阶段',
  'stages.2': '两个阶段',
  'stages.3': '三个阶段',
  'stages.4': '四个阶段',
  play: '播放',
  pause: '暂停',
  slider: '从固定网格到年龄',
  grid: '固定网格：分箱尚未移动',
  moving: '第 {k} 阶段：分箱平移（η）、伸缩（δ）',
  'moving.one': '分箱平移（η）、伸缩（δ）',
  adding: '第 {k} 阶段：累加 p × 位置',
  'adding.one': '累加 p × 位置',
  sum: '{sum} = {total}',
  clamped: '{sum} = {total}，超出范围，显示为 {age}',
  stage: '第 {k} 阶段',
  coarse: '粗',
  finer: '较细',
  finest: '最细',
  figure: '人脸 {number}',
  'figure.weights': '人脸 {number} · {weights}',
  'figure.keys': '用方向键切换分箱。',
  done: '各阶段已全部累加',
  axis: '各阶段累加（岁）',
  bin: '第 {k} 阶段，分箱 {i}',
  'bin.short': '分箱 {i}',
  'bin.label': '分箱 {i} {share}，第 {k} 阶段；p {p}；固定网格 {fixed}；η、δ 调整后 {moved}',
  hint: '指向或点按分箱，也可以使用方向键。',
  p: 'p',
  eta: 'η',
  delta: 'δ',
  fixed: '固定网格',
  moved: 'η、δ 调整后',
  share: '贡献',
  'share.first': '{p} × {place} =',
  'share.later': '{p} × ({place} − {start}) =',
  range: '{low} 至 {high} 岁',
  years: '{age} 岁',
  'no age': '无法得出年龄：网络未输出有效数值',
  'no stages': '该权重没有以岁为单位的阶段。',
  interval: '90% 预测区间：{low} 至 {high} 岁',
  'interval.label': '{age}；90% 预测区间 {low} 至 {high} 岁，坐标轴为 0 至 100 岁',
  'interval.none': '{age}，坐标轴为 0 至 100 岁',
  doubts: '结果不可靠：{reasons}',
  'doubts.unknown': '结果不可靠',
  'doubts.separator': '、',
  'doubt.blurred': '图像模糊',
  'doubt.small': '人脸过小',
  'doubt.covered': '面部有遮挡',
  'doubt.turned': '人脸颠倒或旋转',
  'doubt.profile': '侧脸',
  'doubt.cut off': '人脸超出照片边缘',
  'doubt.not a face': '可能不是人脸',
  'doubt.uncertain': '预期误差大',
};

/** @type {Record<string, Words>} */
export const STRINGS = { en, zh };

/**
 * The words of a language; of English where there is none of it.
 *
 * @param {unknown} language A tag such as `en` or `zh-Hans`.
 * @returns {(key: string, values?: Record<string, string | number>) => string} Fills in the string of a key. A key that
 *   is not known is an empty string.
 */
export function translator(language) {
  const words = /^zh\b/i.test(String(language)) ? zh : en;
  return (key, values = {}) =>
    (Object.hasOwn(words, key) ? words[key] : '').replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}
