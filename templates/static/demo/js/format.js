// Times as people of this locale write them.

import { locale, t } from './strings.js';

const time = new Intl.DateTimeFormat(locale, { hour: 'numeric', minute: '2-digit' });
const weekday = new Intl.DateTimeFormat(locale, { weekday: 'short' });
const date = new Intl.DateTimeFormat(locale, { dateStyle: 'short' });
const day = new Intl.DateTimeFormat(locale, { weekday: 'long', month: 'long', day: 'numeric' });
const dayAndYear = new Intl.DateTimeFormat(locale, { dateStyle: 'full' });
const full = new Intl.DateTimeFormat(locale, { dateStyle: 'full', timeStyle: 'medium' });
const DAY_MS = 86_400_000;

function startOfDay(at) {
  return new Date(at.getFullYear(), at.getMonth(), at.getDate());
}

function daysAgo(at, now) {
  return Math.round((startOfDay(now) - startOfDay(at)) / DAY_MS);
}

export function timeOfDay(iso) {
  return time.format(new Date(iso));
}

export function wholeTime(iso) {
  return full.format(new Date(iso));
}

/** For a separator between days. */
export function dayName(iso, now = new Date()) {
  const at = new Date(iso);
  const ago = daysAgo(at, now);
  if (ago === 0) return t('today');
  if (ago === 1) return t('yesterday');
  return (at.getFullYear() === now.getFullYear() ? day : dayAndYear).format(at);
}

/** For a list: the time today, the weekday within a week, the date before that. */
export function shortWhen(iso, now = new Date()) {
  const at = new Date(iso);
  const ago = daysAgo(at, now);
  if (ago === 0) return time.format(at);
  return (ago < 7 ? weekday : date).format(at);
}

/** The same for two times of one day in this place. */
export function dayKey(iso) {
  return String(startOfDay(new Date(iso)).getTime());
}
