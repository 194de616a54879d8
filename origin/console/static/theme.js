// Before the first paint: the colours that were chosen here last. No module, so that it blocks.
(() => {
  try {
    const chosen = localStorage.getItem("headwater-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage is switched off: the system's colours are used.
  }
})();
