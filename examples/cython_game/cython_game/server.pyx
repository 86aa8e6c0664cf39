# cython: language_level=3
"""The server: players join, push, leave; at every tick each of them is sent where all of them are.

Owns who is in the game and the rule for slow players. A state is worth nothing when there is a newer one:
a player whose last state has not all left for the kernel is not sent this one, and one for whom that goes
on for `PATIENCE` seconds is dropped. So a player costs at most one state of memory, and no other waits for it.

Promises that a tick is one system call for each player, and that nothing but the beginning and the end of
the game takes the GIL. Does not know how bodies move (world) or when it is time (clock).
"""
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import pybuntcp

from pybuntcp cimport (
    handlers_from_slots, new_slots, slots_t, socket_close, socket_end, socket_ext, socket_flush, socket_pending, socket_t,
    socket_terminate, socket_user, socket_write,
)

from cython_game.clock cimport clock_free, clock_handlers, clock_init, clock_start, clock_t
from cython_game.protocol cimport MOST_PLAYERS, header_t, input_t, state_t
from cython_game.world cimport body_t, world_describe, world_is_full, world_join, world_leave, world_step, world_t

cdef uint32_t PATIENCE = 1      # seconds


cdef struct player_t:           # behind every player's socket, zeroed when it is born
    bint here                   # has joined and not left
    uint32_t place              # of its body and of its socket
    uint32_t heard              # the number of its last input
    uint32_t skipped            # states in a row that it was not sent
    input_t input               # the one that comes in
    size_t held                 # bytes of it that are there

cdef struct game_t:
    world_t world
    socket_t* sockets[MOST_PLAYERS]     # in the places of their bodies; each is valid until its `close`
    state_t state               # of the last tick
    size_t size                 # of `state`, in bytes
    clock_t clock
    uint32_t expected           # players: the clock starts when so many are here
    bint over
    int64_t inputs
    int64_t skipped
    int64_t dropped
    void* owner                 # borrowed: the Game


# --- the players' slots

cdef void on_open(socket_t* s) noexcept nogil:
    cdef game_t* game = <game_t*>socket_user(s)
    cdef player_t* player = <player_t*>socket_ext(s)
    if game.over or world_is_full(&game.world):
        socket_close(s)
        return
    player.here = True
    player.place = world_join(&game.world)
    game.sockets[player.place] = s
    if game.world.count == game.expected and game.clock.start == 0:
        with gil:
            (<Game>game.owner).begin()


cdef void on_data(socket_t* s, const char* at, size_t size) noexcept nogil:
    """Inputs, cut anywhere: each is put together where it will be read."""
    cdef player_t* player = <player_t*>socket_ext(s)
    cdef size_t taken
    while size != 0 and player.here:
        taken = min(size, sizeof(input_t) - player.held)
        memcpy(<char*>&player.input + player.held, at, taken)
        player.held += taken
        at += taken
        size -= taken
        if player.held == sizeof(input_t):
            player.held = 0
            if not hear(<game_t*>socket_user(s), player):
                socket_terminate(s)
                return


cdef void on_close(socket_t* s, int error) noexcept nogil:
    cdef player_t* player = <player_t*>socket_ext(s)
    if player.here:
        leave(<game_t*>socket_user(s), player)


cdef bint hear(game_t* game, player_t* player) noexcept nogil:
    """An input is there; the last one before a tick counts. False: it is none."""
    cdef body_t* body = &game.world.bodies[player.place]
    if player.input.number != player.heard + 1:
        return False
    player.heard = player.input.number
    body.push_x = player.input.push_x / <float>32768
    body.push_y = player.input.push_y / <float>32768
    game.inputs += 1
    return True


cdef void leave(game_t* game, player_t* player) noexcept nogil:
    """The last one takes the place, as its body does."""
    cdef socket_t* last
    world_leave(&game.world, player.place)
    last = game.sockets[game.world.count]
    game.sockets[player.place] = last
    (<player_t*>socket_ext(last)).place = player.place
    player.here = False


# --- the clock's

cdef void on_tick(void* user, int64_t tick) noexcept nogil:
    """All players move, then the state is sent to all. No slot runs meanwhile, so that none of them leaves."""
    cdef game_t* game = <game_t*>user
    cdef uint32_t i
    world_step(&game.world, <float>1 / game.clock.hz)
    game.size = world_describe(&game.world, <uint32_t>tick, &game.state)
    for i in range(game.world.count):
        tell(game, game.sockets[i])


cdef void tell(game_t* game, socket_t* s) noexcept nogil:
    """A header of its own and the state that is everybody's.

    Writes of a slot are corked, and leave when it returns. `socket_flush` sends them here: one system
    call, and the memory that they were gathered in serves for the next player.
    """
    cdef player_t* player = <player_t*>socket_ext(s)
    cdef header_t header
    cdef Py_ssize_t taken
    if socket_pending(s) != 0:
        skip(game, s)
        return
    player.skipped = 0
    header.size = <uint32_t>game.size
    header.you = game.world.bodies[player.place].id
    header.heard = player.heard
    taken = socket_write(s, <char*>&header, sizeof(header))
    taken += socket_write(s, <char*>&game.state, game.size)
    socket_flush(s)
    if taken < <Py_ssize_t>(sizeof(header) + game.size):
        socket_terminate(s)     # it is gone, or no memory: nothing was pending, and both fit below the mark


cdef void skip(game_t* game, socket_t* s) noexcept nogil:
    cdef player_t* player = <player_t*>socket_ext(s)
    game.skipped += 1
    player.skipped += 1
    if player.skipped == PATIENCE * game.clock.hz:
        game.dropped += 1
        socket_terminate(s)


cdef void on_over(void* user) noexcept nogil:
    """What is pending is still sent; then everybody gets an end of file."""
    cdef game_t* game = <game_t*>user
    cdef uint32_t i
    game.over = True
    for i in range(game.world.count):
        socket_end(game.sockets[i])
    with gil:
        (<Game>game.owner).finish()


# --- from Python

cdef class Game:
    """The game's memory and its figures; its tables keep it alive."""
    cdef game_t* game
    cdef dict at_start
    cdef dict at_end

    def __cinit__(self, *, int players, int hz, int ticks):
        self.game = <game_t*>calloc(1, sizeof(game_t))
        if self.game == NULL:
            raise MemoryError()
        clock_init(&self.game.clock, hz, ticks)
        self.game.clock.tick = on_tick
        self.game.clock.over = on_over
        self.game.clock.user = self.game
        self.game.expected = players
        self.game.owner = <void*>self

    def __dealloc__(self):
        if self.game != NULL:
            clock_free(&self.game.clock)
            free(self.game)

    def player_handlers(self):
        """For `pybuntcp.listen`."""
        cdef slots_t slots = new_slots()
        slots.user = self.game
        slots.ext_size = sizeof(player_t)
        slots.open = on_open
        slots.data = on_data
        slots.close = on_close
        return handlers_from_slots(&slots, None, self)

    def clock_handlers(self):
        """For `pybuntcp.connect(fd=...)`, with one end of a socketpair."""
        return clock_handlers(&self.game.clock, self)

    cdef int begin(self) except -1:
        """All are here."""
        self.at_start = pybuntcp.stats()
        print(f"joined: {self.game.world.count}", flush=True)
        clock_start(&self.game.clock)
        return 0

    cdef int finish(self) except -1:
        self.at_end = pybuntcp.stats()
        return 0

    def figures(self):
        """What happened between the first tick and the last; times in milliseconds, one of each tick."""
        cdef clock_t* clock = &self.game.clock
        cdef int64_t i
        start, end = self.at_start or {}, self.at_end or {}
        spent = {name: end.get(name, 0) - start.get(name, 0) for name in ("writes", "bytes_written", "turns", "gil_takes")}
        return {
            **spent,
            "ticks": clock.ticks,
            "missed": clock.missed,
            "inputs": self.game.inputs,
            "skipped": self.game.skipped,
            "dropped": self.game.dropped,
            "late": [clock.late[i] / 1e6 for i in range(clock.ticks)],
            "took": [clock.took[i] / 1e6 for i in range(clock.ticks)],
        }
