/** Puts what Gradio says of requests into the words of the page. Errors of ours come with what they are made of. */
import { sayError } from './errors.js';

const WORDS = { Error: '错误', Warning: '警告', Info: '提示', Success: '成功', processing: '处理中', 'queue:': '排队' };
const done = new WeakMap();

/** @param {Node | null | undefined} node */
function translateWord(node) {
  const said = node?.nodeValue?.replace(/[A-Za-z]+:?/, (word) => WORDS[word] ?? word);
  if (node && node.nodeValue !== said) node.nodeValue = said;
}

function translate() {
  const language = document.documentElement.lang.startsWith('zh') ? 'zh' : 'en';
  if (language === 'zh') {
    for (const text of document.querySelectorAll('.progress-text, .toast-title')) text.childNodes.forEach(translateWord);
  }
  for (const text of document.querySelectorAll('[data-testid=toast-text]')) {
    if (done.get(text) === text.textContent) continue;
    const told = text.querySelector('span[title^="{"]');
    text.textContent = sayError(told ? JSON.parse(told.title) : { said: text.textContent.trim() }, language);
    done.set(text, text.textContent);
    const close = text.closest('[data-testid=toast-body]')?.querySelector('[data-testid=toast-close]');
    if (language === 'zh') close?.setAttribute('aria-label', '关闭');
  }
}

new MutationObserver(translate).observe(document.documentElement, { childList: true, characterData: true, subtree: true });
