// Light, dark, or as the system has it. A plain script, run before anything is drawn, so that the page
// does not flash in the wrong one.
'use strict';

(() => {
  const KEY = 'nearmost.theme';
  const ORDER = ['auto', 'light', 'dark'];
  const read = () => {
    try {
      const kept = localStorage.getItem(KEY);
      return ORDER.includes(kept) ? kept : 'auto';
    } catch {
      return 'auto';
    }
  };
  let theme = read();
  const show = () => {
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    const button = document.getElementById('theme');
    if (button) button.textContent = `Theme: ${theme}`;
  };
  show();
  document.addEventListener('DOMContentLoaded', () => {
    show();
    document.getElementById('theme').addEventListener('click', () => {
      theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // It holds until the page is left.
      }
      show();
    });
  });
})();
