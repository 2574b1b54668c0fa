/** Puts what Gradio's messages say into the words of the page. Errors of ours come with what they are made of. */
import { sayError } from './errors.js';

const TITLES = { Error: '错误', Warning: '警告', Info: '提示', Success: '成功' };
const done = new WeakMap();

function translate() {
  for (const text of document.querySelectorAll('[data-testid=toast-text]')) {
    if (done.get(text) === text.textContent) continue;
    const language = document.documentElement.lang.startsWith('zh') ? 'zh' : 'en';
    const told = text.querySelector('span[title^="{"]');
    text.textContent = sayError(told ? JSON.parse(told.title) : { said: text.textContent.trim() }, language);
    done.set(text, text.textContent);
    if (language !== 'zh') continue;
    const toast = text.closest('[data-testid=toast-body]');
    toast.querySelector('[data-testid=toast-close]').setAttribute('aria-label', '关闭');
    const title = toast.querySelector('.toast-title')?.firstChild;
    if (title) title.nodeValue = title.nodeValue.replace(/\w+/, (word) => TITLES[word] ?? word);
  }
}

new MutationObserver(translate).observe(document.documentElement, { childList: true, subtree: true });
