// What the parts of the page share: what is known, what is shown, texts, and requests to the server.
window.flmm = (() => {
  const known = window.flmmKnown;
  const parts = [];
  const state = {
    language: "en", view: "refined", opacity: 0.45, tab: "sentence", source: null, region: null,
    pictures: {strip: [], shown: null}, talk: {turns: [], sentences: []}, marks: [],
    wanted: new Set(), heat: null, heads: null, regionWords: null, hidden: null, look: null, measure: "lift",
  };
  let element, trigger, serial = 0;
  const waiting = new Map();

  const t = (name, values = {}) =>
    known.texts[state.language][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
  const $ = (selector) => element.querySelector(selector);
  const $$ = (selector) => [...element.querySelectorAll(selector)];
  // arrow keys walk round the buttons of a row, as in a group of radio buttons
  function walkable(row, buttons) {
    $(row).addEventListener("keydown", (event) => {
      const step = {ArrowRight: 1, ArrowLeft: -1}[event.key], all = $$(buttons);
      if (!step) return;
      const next = all[(all.indexOf(event.target.closest(buttons)) + step + all.length) % all.length];
      next.click();
      next.focus();
    });
  }
  const keyOf = (source, phrase) => `${source[0]} ${source[1]} ${phrase.start} ${phrase.end}`;
  const INFERNO = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];
  // a gray level as a color of even steps
  function warm(level) {
    const place = level / 255 * (INFERNO.length - 1), low = Math.floor(place), high = Math.min(low + 1, INFERNO.length - 1);
    return INFERNO[low].map((side, i) => Math.round(side + (INFERNO[high][i] - side) * (place - low)));
  }

  // the gray levels of a decoded image as a picture whose pixels `shade` colors
  function tinted(source, shade) {
    const {naturalWidth: width, naturalHeight: height} = source;
    const sheet = new OffscreenCanvas(width, height);
    const pen = sheet.getContext("2d", {willReadFrequently: true});
    pen.drawImage(source, 0, 0);
    const pixels = pen.getImageData(0, 0, width, height);
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set(shade(pixels.data[i]), i);
    pen.putImageData(pixels, 0, 0);
    return sheet;
  }

  // black or white, whichever reads better on a color
  function inkOn(color) {
    const [red, green, blue] = color.match(/\d+/g).map(Number);
    return 0.299 * red + 0.587 * green + 0.114 * blue > 135 ? "#10151e" : "#fff";
  }

  const costOf = ({seconds, megabytes}) => t("cost", {seconds: seconds.toFixed(1), megabytes: megabytes.toLocaleString("en")});
  const colorOf = (number) => known.colors[(number - 1) % known.colors.length];

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  // asks the server; a second press while the first is carried out asks nothing
  function send(name, data = {}) {
    const asked = JSON.stringify([name, data]);
    if ([...waiting.values()].some((one) => one.asked === asked)) return;
    serial += 1;
    waiting.set(serial, {name, asked});
    trigger(name, {...data, id: serial, language: state.language});
    draw();
  }

  // what gradio itself says, in English, of a lost server or a full queue
  function failed(words) {
    waiting.clear();
    toast(/connection/i.test(words) ? t("gone") : /busy|queue/i.test(words) ? t("full") : t("failed", {kind: words}));
    draw("status");
  }

  function overhear(changes) {
    for (const node of changes.flatMap((change) => [...change.addedNodes]))
      if (node.nodeType === 1 && (node.matches(".toast-body") || node.querySelector(".toast-body"))) return failed(node.textContent);
  }

  // values of a channel that the server has changed
  function receive(name, value) {
    if (!element || value === null || value === undefined || value === "") return;
    if (name === "status") return settle(value);
    const places = {region: "regionWords"};
    if (name === "file") return save(value);
    state[places[name] || name] = value;
    if (name === "pictures") forget();
    draw(name);
  }

  // another picture: what was shown of the last one goes
  function forget() {
    const shown = state.pictures.shown;
    const place = shown ? `${shown.room} ${shown.picture} ${shown.url.length}` : "";
    if (place === state.place) return;
    Object.assign(state, {place, region: null, heat: null, heads: null, regionWords: null, hidden: null, look: null, source: null});
  }

  function settle(value) {
    // requests that use the model are answered in their order
    for (const id of [...waiting.keys()]) if (id === value.id || (id < value.id && value.name !== "stop")) waiting.delete(id);
    if (value.error) toast(value.error);
    state.status = value;
    draw("status");
  }

  function toast(text) {
    const box = make("div", {class: "toast"}, make("span", {}, text),
      make("button", {type: "button", "aria-label": t("dismiss"), onclick: () => box.remove()}, "×"));
    $(".toasts").replaceChildren(box);
    setTimeout(() => box.remove(), 12000);
  }

  function save(value) {
    const link = make("a", {href: value.url, download: value.name});
    document.body.append(link);
    link.click();
    link.remove();
  }

  const busyWith = (name) => [...waiting.values()].some((one) => one.name === name);

  function translate() {
    element.firstElementChild.lang = state.language === "zh" ? "zh-CN" : "en";
    document.documentElement.lang = element.firstElementChild.lang;
    for (const node of $$("[data-text]")) node.textContent = t(node.dataset.text);
    for (const node of $$("[data-placeholder]")) node.placeholder = t(node.dataset.placeholder);
    for (const node of $$("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
    for (const node of $$("[data-title]")) node.title = t(node.dataset.title);
  }

  function draw(changed) {
    const busy = $(".busy");
    busy.hidden = waiting.size === 0;
    $(".page").classList.toggle("blank", !state.pictures.shown);
    $(".spent").textContent = state.status && !waiting.size ? t("seconds", {seconds: state.status.seconds.toFixed(1)}) : "";
    for (const part of parts) part.draw(changed);
  }

  function speak(language) {
    state.language = language;
    try { localStorage.setItem("flmm-language", language); } catch { /* storage may be forbidden */ }
    translate();
    draw();
  }

  function start(root, fire) {
    element = root;
    trigger = fire;
    let language = navigator.language.startsWith("zh") ? "zh" : "en";
    try { language = localStorage.getItem("flmm-language") || language; } catch { /* as above */ }
    for (const part of parts) part.start();
    $("[data-act=language]").addEventListener("click", () => speak(state.language === "en" ? "zh" : "en"));
    $("[data-act=download]").addEventListener("click", () => send("download"));
    new MutationObserver(overhear).observe(document.body, {childList: true, subtree: true});
    speak(known.texts[language] ? language : "en");
  }

  return {known, parts, state, t, $, $$, make, send, receive, start, draw, toast, busyWith, keyOf, colorOf, costOf, inkOn, warm, tinted, walkable};
})();
