// The conversation: questions, replies with their phrases as buttons, and texts in general.
flmm.parts.push((() => {
  const {known, state, t, $, make, send, draw, busyWith, keyOf, colorOf, costOf} = flmm;

  let timer = null;
  const markOf = (source, phrase) => state.marks.find((mark) => keyOf(mark.source, mark.phrase) === keyOf(source, phrase));

  // a phrase: shows or hides its mask, which is asked for the first time
  function press(source, phrase) {
    const key = keyOf(source, phrase), mark = markOf(source, phrase);
    state.source = source;
    if (state.view === "image") state.view = "refined";
    if (state.tab === "heads") state.tab = "sentence";
    if (mark && state.wanted.has(key)) state.wanted.delete(key);
    else state.wanted.add(key);
    if (!mark) send("ground", {source, phrases: [[phrase.start, phrase.end]]});
    draw("marks");
  }

  // a text whose phrases can be clicked
  function text({source, text, phrases}) {
    const extra = state.marks.filter((mark) => String(mark.source) === String(source)).map((mark) => mark.phrase)
      .filter((one) => phrases.every((phrase) => phrase.end <= one.start || one.end <= phrase.start));
    const nodes = [], ordered = [...phrases, ...extra].sort((a, b) => a.start - b.start);
    let place = 0;
    for (const phrase of ordered) {
      if (phrase.start < place) continue;
      const mark = markOf(source, phrase), on = Boolean(mark) && state.wanted.has(keyOf(source, phrase));
      nodes.push(text_(source, text, place, phrase.start));
      nodes.push(make("button", {type: "button", class: mark ? "phrase found" : "phrase", "aria-pressed": String(on),
        style: mark ? `--color: ${colorOf(mark.number)}` : null, onclick: () => press(source, phrase)},
        text.slice(phrase.start, phrase.end), ...(mark ? [make("sup", {}, String(mark.number))] : [])));
      place = phrase.end;
    }
    nodes.push(text_(source, text, place, text.length));
    const paragraph = make("p", {class: "text"}, ...nodes);
    paragraph.picked = () => picked(paragraph, source, text);
    return paragraph;
  }

  const text_ = (source, words, start, end) => make("span", {"data-start": start}, words.slice(start, end));

  // words that were selected, with a mouse or a finger, can be found too
  function picked(paragraph, source, words) {
    document.querySelectorAll(".chosen").forEach((node) => node.remove());
    const selection = window.getSelection();
    const chosen = selection.toString().trim();
    if (!chosen || !paragraph.contains(selection.anchorNode)) return;
    const anchor = selection.anchorNode.parentElement, base = Number(anchor.dataset.start ?? NaN);
    const from = Number.isNaN(base) ? 0 : base + Math.min(selection.anchorOffset, selection.focusOffset) - 1;
    let start = words.indexOf(chosen, Math.max(0, from));
    if (start < 0) start = words.indexOf(chosen);
    if (start < 0) return;
    const phrase = {start, end: start + chosen.length, text: chosen};
    if (phrase.end - phrase.start === words.trim().length) return;
    paragraph.after(make("button", {type: "button", class: "plain chosen", onclick: (event) => { event.target.remove(); press(source, phrase); }}, `${t("chosen")}: ${chosen}`));
  }

  function all(source, phrases) {
    state.source = source;
    const missing = phrases.filter((phrase) => !markOf(source, phrase));
    for (const phrase of phrases) state.wanted.add(keyOf(source, phrase));
    for (let i = 0; i < missing.length; i += known.limits.phrases)
      send("ground", {source, phrases: missing.slice(i, i + known.limits.phrases).map(({start, end}) => [start, end])});
    draw("marks");
  }

  // words that the user wrote and the model cannot read
  const unread = (one) => one.unknown.length ? [make("small", {class: "unread"}, t("unknown", {words: one.unknown.join(", ")}))] : [];

  function turn(one) {
    const question = make("p", {class: "question"}, one.question);
    if (one.speaking) return make("article", {}, question, make("p", {class: "text speaking"}, one.text, make("i", {class: "caret"})));
    const foot = make("footer", {}, make("button", {type: "button", class: "plain small", onclick: () => all(one.source, one.phrases)}, t("all")), make("small", {}, one.cost ? costOf(one.cost) : ""));
    return make("article", {}, question, ...unread(one), text(one), ...(one.cut ? [make("small", {class: "cut"}, `… ${t("cut")}`)] : []), foot);
  }

  // says what to do first; the step that is next is marked
  function steps() {
    const now = state.pictures.shown ? 1 : 0;
    return make("ol", {class: "steps"}, ...["step_picture", "step_ask", "step_click"].map((name, step) =>
      make("li", {class: step < now ? "done" : step === now ? "now" : "", "aria-current": step === now ? "step" : false}, t(name))));
  }

  function ask(question) {
    if (!question.trim()) return;
    send("ask", {question});
    $("[name=question]").value = "";
  }

  return {
    text, all, unread,
    start() {
      $("form.ask").addEventListener("submit", (event) => { event.preventDefault(); ask($("[name=question]").value || known.questions[0]); });
      $("[name=question]").maxLength = known.limits.characters;
      $("[name=question]").addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        $("form.ask").requestSubmit();
      });
      $("[data-act=stop]").addEventListener("click", () => send("stop"));
      $("[data-act=reset]").addEventListener("click", () => { state.wanted.clear(); Object.assign(state, {regionWords: null, hidden: null, look: null, heat: null, heads: null, source: null}); send("reset"); });
      document.addEventListener("selectionchange", () => {
        const node = window.getSelection().anchorNode, paragraph = node && node.parentElement && node.parentElement.closest("#flmm .text");
        clearTimeout(timer);
        if (paragraph && paragraph.picked) timer = setTimeout(paragraph.picked, 250);
      });
      $(".proposals").replaceChildren(...known.questions.map((question) => make("button", {type: "button", class: "chip", onclick: () => ask(question)}, question)));
    },
    draw(changed) {
      $("form.ask [type=submit]").hidden = busyWith("ask");
      $("[data-act=stop]").hidden = !busyWith("ask");
      $("[data-act=reset]").hidden = !state.talk.turns.length && !state.talk.sentences.length;
      if (changed && !["talk", "marks", "pictures"].includes(changed)) return;
      const turns = $(".turns"), down = turns.scrollHeight - turns.scrollTop - turns.clientHeight < 80;
      turns.replaceChildren(...(state.talk.turns.length ? state.talk.turns.map(turn) : [steps()]));
      if (down || changed === "talk") turns.scrollTop = turns.scrollHeight;
      const last = state.talk.turns.filter((one) => one.source).at(-1);
      const sources = [...state.talk.turns, ...state.talk.sentences].filter((one) => one.source).map((one) => String(one.source));
      if (!state.source || !sources.includes(String(state.source))) state.source = last ? last.source : (state.talk.sentences.at(-1) || {source: null}).source;
    },
  };
})());
