#include "client/departure.h"

#include <signal.h>

static const int signals[DEPARTURE_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};

static void cut(struct departure *departure, bool is_wanted)
{
    departure->on_cut(departure->context, is_wanted);
    uv_stop(departure->timer.loop);
}

static void on_timer(uv_timer_t *timer)
{
    cut(timer->data, false);
}

static void on_signal(uv_signal_t *signal, int number KT_UNUSED)
{
    struct departure *departure = signal->data;
    if (departure->signals++ > 0)
        cut(departure, true);
    else
        departure->on_request(departure->context);
}

void departure_init(struct departure *departure, uv_loop_t *loop, void (*on_request)(void *context),
                    void (*on_cut)(void *context, bool is_wanted), void *context)
{
    *departure = (struct departure){.on_request = on_request, .on_cut = on_cut, .context = context};
    departure->timer.data = departure;
    (void)uv_timer_init(loop, &departure->timer);
    for (size_t i = 0; i < DEPARTURE_SIGNALS; i++) {
        departure->signal[i].data = departure;
        (void)uv_signal_init(loop, &departure->signal[i]);
        (void)uv_signal_start(&departure->signal[i], on_signal, signals[i]);
    }
}

void departure_begin(struct departure *departure)
{
    (void)uv_timer_start(&departure->timer, on_timer, DEPARTURE_MS, 0);
}

void departure_close(struct departure *departure)
{
    for (size_t i = 0; i < DEPARTURE_SIGNALS; i++)
        uv_close((uv_handle_t *)&departure->signal[i], NULL);
    uv_close((uv_handle_t *)&departure->timer, NULL);
}
