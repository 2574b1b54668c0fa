/*
 * What has to be there from the first moment on, before Gradio is.
 *
 * What a visitor drops anywhere is a photo for the page: until that listens, it waits here. Gradio's own places for
 * files keep theirs. The tab and the weights are kept in the address, so that a copied link has them.
 */
window.ssrnet ??= (() => {
  const own = '#photos, #film';
  let take = null, waiting = null, defaults = null, asked = 0;

  addEventListener('dragover', (event) => {
    if ([...(event.dataTransfer?.types ?? [])].includes('Files') && !event.target.closest?.(own)) event.preventDefault();
  });
  addEventListener('drop', (event) => {
    const [file] = event.dataTransfer?.files ?? [];
    if (!file || event.target.closest?.(own)) return;
    event.preventDefault();
    if (take) take(file);
    else waiting = file;
  });
  addEventListener('click', (event) => {
    const tab = event.target.closest?.('[role=tab]')?.id.match(/^tab-(\w+)-button$/)?.[1];
    if (tab) keep('tab', tab, 'photo');
  });

  function keep(name, value, usual) {
    const url = new URL(location.href);
    if (!value || value === usual) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
    if (url.href !== location.href) history.replaceState(history.state, '', url);
  }

  // Gradio's client breaks its stream of answers off when the last one has come, and tells whatever is asked for at that
  // moment that the connection is lost. It is read to its end instead, which the server has sent.
  const { fetch } = window;
  window.fetch = (what, options) => {
    const stream = what instanceof Request && new URL(what.url).pathname.endsWith('/queue/data');
    return stream ? fetch(what.url, { headers: what.headers, credentials: what.credentials }) : fetch(what, options);
  };

  return {
    /** Dropped photos go there from now on, and the one that waits. */
    onDrop(listener) {
      take = listener;
      if (waiting) take(waiting);
      waiting = null;
    },
    /** What the address asks for: the tab, and the weights. */
    openLink(weights) {
      defaults = weights;
      const { tab, weights: named } = Object.fromEntries(new URLSearchParams(location.search));
      return [tab ? { __type__: 'update', selected: tab } : undefined, named || undefined];
    },
    keepWeights: (weights) => keep('weights', weights, defaults),
    /** Numbers what is asked for: of several answers, the one to the last question counts. */
    ask() {
      dispatchEvent(new CustomEvent('ssrnet-ask', { detail: ++asked }));
      return asked;
    },
    failed: () => dispatchEvent(new CustomEvent('ssrnet-failed')),
  };
})();
