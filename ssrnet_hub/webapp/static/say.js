/** What the page's own components say; the breakdown has its own words in strings.js. Names in braces are filled in. */

const en = {
  upload: 'Upload photo',
  paste: 'Paste',
  camera: 'Camera',
  examples: 'Examples',
  example: 'Example: {name}',
  invite: 'This is an example. Upload, drop, or paste a photo to see the age of every face in it.',
  busy: 'Estimating ages…',
  'no face': 'No face was found in this photo. By default, faces smaller than 20 pixels are not detected.',
  most: 'Only the {count} largest faces are shown.',
  photo: 'The photo, with a box around each face',
  faces: 'Faces, from left to right',
  face: 'Face {number}',
  'face.label': 'Face {number}, {age}',
  confidence: 'Detection score {score}',
  rotated: 'rotated by {degrees}°',
  found: '{count} faces: {ages}',
  'found.one': 'One face: {ages}',
  how: 'Face {number}, stage by stage',
  'save photo': 'Save photo',
  'save figure': 'Save figure as {kind}',
  'save figure of': 'Save figure as {kind}: {weights}',
  clipboard: 'There is no picture in the clipboard.',
  'no clipboard': 'This browser does not let the page read the clipboard: press Ctrl+V or ⌘V instead.',
  'no camera': 'The camera cannot be used: {why}',
  capture: 'Take photo',
  cancel: 'Cancel',
  'camera hint': 'Start your camera to see your face and its estimated age here.',
  person: 'person {person}: {age} years',
  nobody: 'nobody',
  people: '{count} people; lines are averages over the last seconds',
  'people.one': '1 person; the line is an average over the last seconds',
  'no people': 'No faces were found in this video.',
  over: 'Age over time: {people}',
  'film axis': 'Age of each person over time. Click to go there in the video.',
  seconds: '{seconds} s',
  photos: '{count} photos',
  'photos.one': '1 photo',
  broken: '{count} of them could not be read',
  save: 'Save:',
  file: 'file',
  interval: '90% interval',
  score: 'detection score',
  note: 'note',
  age: 'age',
  number: 'face',
  picture: 'photo',
  'no face found': 'no face found',
  table: 'Ages in all photos',
  histogram: 'Faces by age',
  'histogram.bin': '{low} to {high} years: {count}',
};

const zh = {
  upload: '上传照片',
  paste: '粘贴',
  camera: '拍照',
  examples: '示例',
  example: '示例：{name}',
  invite: '这是一个示例。上传、拖放或粘贴一张照片，即可看到其中每张脸的年龄。',
  busy: '正在估计年龄……',
  'no face': '照片中没有检测到人脸。默认不检测小于 20 像素的人脸。',
  most: '仅显示最大的 {count} 张脸。',
  photo: '照片，每张脸都有边框',
  faces: '人脸，从左到右',
  face: '人脸 {number}',
  'face.label': '人脸 {number}，{age}',
  confidence: '检测得分 {score}',
  rotated: '旋转了 {degrees}°',
  found: '{count} 张脸：{ages}',
  'found.one': '一张脸：{ages}',
  how: '人脸 {number}：逐阶段推算',
  'save photo': '保存照片',
  'save figure': '保存图为 {kind}',
  'save figure of': '保存图为 {kind}：{weights}',
  clipboard: '剪贴板中没有图片。',
  'no clipboard': '浏览器不允许页面读取剪贴板，请按 Ctrl+V 或 ⌘V。',
  'no camera': '无法使用摄像头：{why}',
  capture: '拍摄',
  cancel: '取消',
  'camera hint': '启动摄像头后，这里会显示你的脸和估计的年龄。',
  person: '第 {person} 人：{age} 岁',
  nobody: '没有人',
  people: '{count} 人；曲线为最近几秒的平均值',
  'people.one': '1 人；曲线为最近几秒的平均值',
  'no people': '视频中没有检测到人脸。',
  over: '年龄随时间的变化：{people}',
  'film axis': '每个人的年龄随时间的变化。点击可跳转到视频中的该时刻。',
  seconds: '{seconds} 秒',
  photos: '{count} 张照片',
  'photos.one': '1 张照片',
  broken: '其中 {count} 张无法读取',
  save: '保存：',
  file: '文件',
  interval: '90% 区间',
  score: '检测得分',
  note: '备注',
  age: '年龄',
  number: '人脸',
  picture: '照片',
  'no face found': '未检测到人脸',
  table: '所有照片中的年龄',
  histogram: '各年龄的人脸数',
  'histogram.bin': '{low} 至 {high} 岁：{count}',
};

const EXAMPLES = {
  astronaut: '宇航员', 'three-sizes': '三种大小', grey: '灰度', rotated: '旋转', 'cat-without-a-face': '没有人脸的猫',
};

/**
 * What puts keys and numbers into words.
 *
 * @param {string} language `en` or `zh`.
 * @returns {(key: string, values?: Record<string, string | number>) => string}
 */
export function sayIn(language) {
  const words = language === 'zh' ? zh : en;
  return (key, values = {}) =>
    (words[key] ?? en[key] ?? '').replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}

/** The name of an example. @param {string} name @param {string} language */
export const exampleName = (name, language) => (language === 'zh' && EXAMPLES[name]) || name.replaceAll('-', ' ');
