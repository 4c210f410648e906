/* Threads: mutexes, condition variables, atomics of every size and order, thread-local storage. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include "check.h"

enum { THREADS = 8, ROUNDS = 4000, SLOTS = 16, ITEMS = 3000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long guarded;
static _Atomic uint8_t byte;
static _Atomic uint16_t half;
static _Atomic uint32_t word;
static _Atomic uint64_t doubleword, largest;
static _Thread_local uint64_t local;
static pthread_barrier_t barrier;

static struct pair {
  uint64_t a, b;
} pair __attribute__((aligned(16)));

static void *count(void *argument) {
  uintptr_t me = (uintptr_t)argument;
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < ROUNDS; i++) {
    pthread_mutex_lock(&mutex);
    guarded++;
    pthread_mutex_unlock(&mutex);
    atomic_fetch_add(&byte, 1);
    atomic_fetch_sub_explicit(&half, 1, memory_order_relaxed);
    atomic_fetch_xor_explicit(&word, 1u << (me + i % 4), memory_order_acq_rel);
    uint64_t old = atomic_load_explicit(&doubleword, memory_order_acquire);
    while (!atomic_compare_exchange_weak(&doubleword, &old, old * 3 + 1)) continue;
    uint64_t mine = me * ROUNDS + i, seen = atomic_load(&largest);
    while (seen < mine && !atomic_compare_exchange_strong(&largest, &seen, mine)) continue;
    struct pair was = pair, is;
    do {
      is = (struct pair){was.a + 1, was.b + was.a};
    } while (!__atomic_compare_exchange(&pair, &was, &is, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    local += me;
    if (i % 512 == 0) sched_yield();
  }
  CHECK(local == me * ROUNDS, "thread %d has %llu in its local", (int)me, (unsigned long long)local);
  return NULL;
}

/* A queue of producers and consumers. */
static int queue[SLOTS], head, tail;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER, emptied = PTHREAD_COND_INITIALIZER;

static void *produce(void *argument) {
  (void)argument;
  for (int i = 1; i <= ITEMS; i++) {
    pthread_mutex_lock(&lock);
    while (head - tail == SLOTS) pthread_cond_wait(&emptied, &lock);
    queue[head++ % SLOTS] = i;
    pthread_cond_signal(&filled);
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}
static void *consume(void *sum) {
  for (int i = 0; i < ITEMS; i++) {
    pthread_mutex_lock(&lock);
    while (head == tail) pthread_cond_wait(&filled, &lock);
    *(long *)sum += queue[tail++ % SLOTS];
    pthread_cond_signal(&emptied);
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

int main(void) {
  pthread_t threads[THREADS];
  pthread_barrier_init(&barrier, NULL, THREADS);
  for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, count, (void *)i);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  uint64_t steps = 0, sum = 0;
  for (uint64_t i = 0; i < THREADS * ROUNDS; i++) {
    sum += i;
    steps = steps * 3 + 1;
  }
  CHECK(guarded == THREADS * ROUNDS, "%ld counted under the mutex", guarded);
  CHECK(byte == (uint8_t)(THREADS * ROUNDS), "byte %d", byte);
  CHECK(half == (uint16_t)(-THREADS * ROUNDS), "halfword %d", half);
  CHECK(word == 0, "word %x", word);
  CHECK(doubleword == steps, "doubleword %llx", (unsigned long long)doubleword);
  CHECK(largest == THREADS * ROUNDS - 1, "largest %llu", (unsigned long long)largest);
  CHECK(pair.a == THREADS * ROUNDS && pair.b == sum, "pair %llu %llu", (unsigned long long)pair.a, (unsigned long long)pair.b);

  long sums[2] = {0, 0};
  pthread_create(&threads[0], NULL, produce, NULL);
  pthread_create(&threads[1], NULL, produce, NULL);
  pthread_create(&threads[2], NULL, consume, &sums[0]);
  pthread_create(&threads[3], NULL, consume, &sums[1]);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  CHECK(sums[0] + sums[1] == (long)ITEMS * (ITEMS + 1), "consumed %ld", sums[0] + sums[1]);
  FINISH;
}
