/** The words of the page. Names in braces are filled in. */

/** @type {Record<string, Record<string, string>>} */
export const WORDS = {
  en: {
    title: 'How old does each face look?',
    lead: 'SSR-Net estimates the age of every face, stage by stage. Photos are analyzed in this browser and are never sent anywhere.',
    choose: 'Choose a photo',
    drop: 'or drop it here, or paste it',
    camera: 'Start the camera',
    stop: 'Stop the camera',
    language: 'Language',
    loading: 'Loading the networks (about {size} MB, once)…',
    ready: 'Ready. After this visit, the page also works offline.',
    working: 'Looking for faces…',
    live: 'The camera is on. Its pictures stay in this browser.',
    none: 'No face was found.',
    one: '1 face found.',
    found: '{count} faces found.',
    faces: 'Faces',
    face: 'Face {number}',
    photo: 'The photo with a box around each face',
    how: 'How the network came to this age',
    PhotoError: 'This file cannot be read as a photo: it is damaged, or of a format that this browser does not know.',
    PhotoTooLargeError: 'This photo is too large for this browser.',
    CameraError: 'The camera cannot be used: {message}',
    other: 'Something went wrong: {message}',
    about: 'Weights: {name}. The prediction interval contains the true age of 9 in 10 faces like those that it was calibrated on. For research; not for decisions about people.',
  },
  zh: {
    title: '每张脸看起来多大？',
    lead: 'SSR-Net 逐阶段估计每张人脸的年龄。照片只在本浏览器中分析，不会上传到任何地方。',
    choose: '选择照片',
    drop: '也可以拖放或粘贴到这里',
    camera: '打开摄像头',
    stop: '关闭摄像头',
    language: '语言',
    loading: '正在加载网络（约 {size} MB，仅需一次）…',
    ready: '就绪。此后离线也可使用本页。',
    working: '正在检测人脸…',
    live: '摄像头已打开，画面不会离开本浏览器。',
    none: '未检测到人脸。',
    one: '检测到 1 张人脸。',
    found: '检测到 {count} 张人脸。',
    faces: '人脸',
    face: '人脸 {number}',
    photo: '照片，每张人脸均有框标出',
    how: '网络如何得出这一年龄',
    PhotoError: '无法读取该文件：文件已损坏，或本浏览器不支持其格式。',
    PhotoTooLargeError: '照片过大，本浏览器无法处理。',
    CameraError: '无法使用摄像头：{message}',
    other: '出错了：{message}',
    about: '权重：{name}。对于与校准数据相似的人脸，十张中有九张的真实年龄落在预测区间内。仅供研究，请勿用于对个人作出决定。',
  },
};

/** @param {string} language */
export function wordsOf(language) {
  const words = WORDS[/^zh\b/i.test(language) ? 'zh' : 'en'];
  return (/** @type {string} */ key, /** @type {Record<string, string | number>} */ values = {}) =>
    (words[key] ?? '').replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}
