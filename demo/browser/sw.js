/** Keeps the page for when there is no network. `files.js` names what belongs to it. */
importScripts('./files.js');

const { FILES, POLICY, VERSION } = self;
const NAME = `ssrnet-hub-${VERSION}`;

self.addEventListener('install', (event) => event.waitUntil(keep()));

self.addEventListener('activate', (event) => event.waitUntil(Promise.all([forget(), self.clients.claim()])));

self.addEventListener('fetch', (event) => {
  if (event.request.method === 'GET' && new URL(event.request.url).origin === self.location.origin) {
    event.respondWith(answer(event.request));
  }
});

async function keep() {
  const cache = await caches.open(NAME);
  await cache.addAll(FILES);
}

async function forget() {
  const names = (await caches.keys()).filter((name) => name.startsWith('ssrnet-hub-') && name !== NAME);
  await Promise.all(names.map((name) => caches.delete(name)));
}

async function answer(request) {
  const kept = await caches.match(request, { cacheName: NAME, ignoreSearch: true });
  if (!kept) return fetch(request);
  // the policy of the page is that of its threads as well
  const headers = new Headers(kept.headers);
  headers.set('Content-Security-Policy', POLICY);
  return new Response(kept.body, { status: kept.status, headers });
}
