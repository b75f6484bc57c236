// Where the page begins: which users, side by side or one alone.

import { Account } from './account.js';
import { Session } from './session.js';
import { language, switchLanguage, t, translate } from './strings.js';
import { DrawerView } from './view/drawer.js';
import { PaneView } from './view/pane.js';
import { make } from './dom.js';

const account = Account.ofPage();
const drawer = new DrawerView();
const asked = new URLSearchParams(location.search);
const isAlone = asked.has('user');
const slots = isAlone ? ['user'] : ['left', 'right'];
const panes = document.getElementById('panes');
const mounted = new Map();
const socketUrl = `${location.origin.replace(/^http/, 'ws')}/ws`;

function userFor(slot, index) {
  return account.findUser(asked.get(slot)) ?? account.users[index % account.users.length];
}

function mount(slot, user) {
  const former = mounted.get(slot);
  const session = new Session({ account, user, slot, url: socketUrl, ...drawer.of(user) });
  const view = new PaneView({
    session,
    users: account.users,
    isAlone,
    onPick: (externalUserId) => {
      asked.set(slot, externalUserId);
      history.replaceState(null, '', `?${asked}`);
      mount(slot, account.findUser(externalUserId));
      showSwitch();
    },
  });
  view.element.dataset.slot = slot;
  if (former) {
    former.session.stop();
    former.view.element.replaceWith(view.element);
    former.view.remove();
    view.element.querySelector('.user-picker').focus();
  } else panes.append(view.element);
  mounted.set(slot, { session, view });
  session.start();
}

/** On a narrow screen only one pane fits; these choose which. */
function showSwitch() {
  const nav = document.getElementById('switch');
  nav.hidden = isAlone;
  nav.replaceChildren(
    ...slots.map((slot) => {
      const button = make('button', '', mounted.get(slot).session.user.displayName);
      button.type = 'button';
      button.setAttribute('aria-pressed', String(panes.dataset.active === slot));
      button.addEventListener('click', () => {
        panes.dataset.active = slot;
        showSwitch();
      });
      return button;
    }),
  );
  document.title = isAlone ? `${mounted.get('user').session.user.displayName} · ${t('page')}` : t('page');
}

document.documentElement.lang = language === 'zh' ? 'zh-Hans' : 'en';
translate(document);
const languageButton = document.getElementById('language');
languageButton.textContent = t('language');
languageButton.setAttribute('aria-label', t('languageLabel'));
languageButton.addEventListener('click', switchLanguage);
const layout = document.getElementById('layout');
layout.textContent = t('sideBySide');
layout.hidden = !isAlone;

panes.dataset.active = slots[0];
panes.classList.toggle('is-alone', isAlone);
slots.forEach((slot, index) => mount(slot, userFor(slot, index)));
showSwitch();

function retryAll() {
  if (document.visibilityState !== 'visible') return;
  for (const { session } of mounted.values()) session.retryNow();
}
window.addEventListener('online', retryAll);
document.addEventListener('visibilitychange', retryAll);
