/** Puts what Gradio says by itself, in English alone, into Chinese; errors of ours come with what they are made of. */
import { sayError } from './errors.js';

const WORDS = {
  Error: '错误', Warning: '警告', Info: '提示', Success: '成功', Close: '关闭', 'processing |': '处理中 |',
  'Click to Access Webcam': '点击开启摄像头', 'grant webcam access': '开启摄像头', 'select input source': '选择摄像头',
  'select source': '选择摄像头', 'capture photo': '开始或停止', 'start recording': '开始', 'stop recording': '停止', spinner: '等待中',
};
const SENTENCES = [
  [/^queue: (\d+)\/(\d+) \|$/, '排队 $1/$2 |'],
  [/^This application is currently busy\. Please try again\.$/, '服务器正忙，请稍后再试。'],
  [/^Connection errored out\.$/, '连接中断，请重试。'],
  [/^Connection to the server was lost\..*/, '与服务器的连接已断开，正在重新连接……'],
  [/^File\(s\) exceed the maximum allowed size of (.+?): (.+)/, '文件超过大小上限 $1：$2'],
  [/^Video not playable$/, '浏览器无法播放该视频。'],
  [/^(Upload failed|Failed to fetch|NetworkError).*/, '上传失败，请重试。'],
  [/^An (unexpected )?error occurred.*/i, '出错了，请重试。'],
];
const PARTS = '.toast-body, .progress-text, #camera';

/** @param {string} text */
function translate(text) {
  const said = text.trim();
  const known = SENTENCES.find(([pattern]) => pattern.test(said));
  return WORDS[said] ?? (known ? said.replace(...known) : text);
}

/** Errors of ours, from the attribute in which they come. @param {string} language */
function tellErrors(language) {
  for (const error of document.querySelectorAll('[data-testid=toast-text] > [title^="{"]')) {
    error.replaceWith(sayError(JSON.parse(error.title), language));
  }
}

function translateParts() {
  for (const part of document.querySelectorAll(PARTS)) {
    const texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const text = texts.currentNode;
      const said = translate(text.nodeValue);
      if (said !== text.nodeValue) text.nodeValue = said;
    }
    for (const element of part.querySelectorAll('[aria-label], [title]')) {
      for (const name of ['aria-label', 'title']) {
        const said = element.getAttribute(name);
        if (said && translate(said) !== said) element.setAttribute(name, translate(said));
      }
    }
  }
}

new MutationObserver(() => {
  const language = document.documentElement.lang.startsWith('zh') ? 'zh' : 'en';
  tellErrors(language);
  if (language === 'zh') translateParts();
}).observe(document.documentElement, { childList: true, characterData: true, subtree: true });
