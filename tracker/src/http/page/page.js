// Keeps a page up to date: the fleet's from the stream of changes, the others by fetching them again.
// Without this script pages refresh by themselves.
'use strict';
(() => {
  const main = document.getElementById('main');
  const dead = document.getElementById('dead');
  // a tick comes every second
  const DEAD_AFTER = 5000;
  // a stream that was refused is asked for again after this; before DEAD_AFTER, so that the page in between counts
  const AGAIN_AFTER = 3000;
  const whole = main.dataset.live === 'whole';
  let heard = Date.now();
  let ticks = 0;
  let source = null;

  // Replaces what is inside `place`; the keyboard's place and scrolled tables stay where they are.
  function swap(place, html) {
    if (!place) return;
    const active = place.contains(document.activeElement) ? document.activeElement : null;
    const mark = active && (active.id ? '#' + CSS.escape(active.id)
      : active.getAttribute('href') && `a[href="${CSS.escape(active.getAttribute('href'))}"]`);
    const lefts = [...place.querySelectorAll('.scroll')].map((table) => table.scrollLeft);
    place.innerHTML = html;
    place.querySelectorAll('.scroll').forEach((table, at) => { table.scrollLeft = lefts[at] || 0; });
    if (mark) {
      const again = place.querySelector(mark);
      if (again) again.focus({ preventScroll: true });
    }
  }

  function title(text) {
    document.title = document.title.replace(/^.*? · /, text + ' · ');
  }

  function cells(list) {
    for (const [id, classes, fill, letter, text] of list) {
      const cell = document.getElementById(id);
      if (!cell) continue;
      cell.className = classes;
      cell.style.setProperty('--p', fill + '%');
      cell.textContent = letter;
      cell.title = text;
    }
  }

  // The map is one stop of the tab key; arrows move inside it.
  function rove() {
    const map = document.getElementById('map');
    if (!map) return;
    const all = map.querySelectorAll('.c');
    const here = map.contains(document.activeElement) ? document.activeElement : all[0];
    all.forEach((cell) => { cell.tabIndex = cell === here ? 0 : -1; });
  }

  function arrows(event) {
    const cell = event.target.closest('.c');
    if (!cell) return;
    const all = [...document.querySelectorAll('#map .c')];
    const at = all.indexOf(cell);
    let next;
    if (event.key === 'ArrowRight') next = all[at + 1];
    else if (event.key === 'ArrowLeft') next = all[at - 1];
    else if (event.key === 'Home') next = all[0];
    else if (event.key === 'End') next = all[all.length - 1];
    else if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      const down = event.key === 'ArrowDown';
      const box = cell.getBoundingClientRect();
      const row = down ? all.slice(at + 1) : all.slice(0, at).reverse();
      const away = row.find((other) => other.offsetTop !== cell.offsetTop);
      const line = row.filter((other) => away && other.offsetTop === away.offsetTop);
      const far = (other) => Math.abs(other.getBoundingClientRect().left - box.left);
      next = line.reduce((best, other) => (!best || far(other) < far(best) ? other : best), null);
    } else return;
    event.preventDefault();
    if (!next) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  // Fetches the page again, and says whether it was the tracker that answered: a proxy in front of it has no #main.
  async function again() {
    try {
      const answer = await fetch(location.href, { cache: 'no-store' });
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const fresh = page.getElementById('main');
      if (!fresh) return;
      heard = Date.now();
      if (fresh.innerHTML !== main.innerHTML) swap(main, fresh.innerHTML);
      document.title = page.title;
      rove();
    } catch {
      // the watch below says that the tracker is gone
    }
  }

  function tick() {
    heard = Date.now();
    ticks += 1;
    if (whole && ticks % 2 === 0) again();
  }

  setInterval(() => {
    if (document.hidden) return;
    const age = Date.now() - heard;
    const gone = age > DEAD_AFTER;
    document.body.classList.toggle('gone', gone);
    if (gone && dead.hidden) {
      const time = new Date(heard).toLocaleTimeString();
      dead.textContent = `The tracker does not answer. What you see is from ${time}. Nodes that are `
        + 'fetching go on with the peers they know; is bee-tracker running?';
    }
    dead.hidden = !gone;
  }, 1000);

  function connect() {
    // browsers hold six connections to a host: those of pages that nobody sees are wanted by others
    if (document.hidden || source) return;
    const stream = new EventSource(whole ? '/api/v1/stream?ticks' : '/api/v1/stream');
    source = stream;
    // a browser opens a stream again that broke, but none that was refused
    stream.onerror = () => {
      if (stream !== source || stream.readyState !== EventSource.CLOSED) return;
      disconnect();
      if (!document.hidden) again();
      setTimeout(connect, AGAIN_AFTER);
    };
    const on = (name, take) =>
      stream.addEventListener(name, (event) => take(JSON.parse(event.data)));
    on('tick', tick);
    if (whole) return;
    on('head', (html) => {
      swap(document.getElementById('head'), html);
      const up = document.querySelector('#head .tiles dd');
      if (up) title(up.textContent.replace(' of ', '/') + ' up');
    });
    on('stalls', (html) => swap(document.getElementById('stalls'), html));
    on('charts', (html) => swap(document.getElementById('charts'), html));
    on('map', (html) => { swap(document.getElementById('map'), html); rove(); });
    on('cells', cells);
  }

  function disconnect() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return disconnect();
    heard = Date.now();
    connect();
    if (whole) again();
  });
  main.addEventListener('keydown', arrows);
  main.addEventListener('focusin', (event) => { if (event.target.matches('.c')) rove(); });
  rove();
  connect();
})();
