;; The bodies that replace a guest's WASI imports, in the guest's own module (link.py puts them in).
;;
;; $guest is the guest's memory, $io the memory appended for the host; the guest cannot name it.
;; @name is the address of a field in $io (layout.py). @host calls the host's function of the same name with this
;; function's own arguments, through the table appended for it; @granted does so where the policy grants a
;; directory (the field files is not 0) and gives BADF otherwise, or always in a guest that can open none.
;; @fd_tell and others with the name of a WASI function ask the host that of $fd, or of $fd and $path, with the answer
;; at address 0 of the guest: those 64 bytes are saved before. Stdio is served here; where a directory is granted, the
;; host has empty streams under the same descriptors, so that it numbers files as it should.
;; The functions after the last WASI one are helpers, appended behind the guest's own functions.
;; errno: 2 ACCES, 8 BADF, 19 DQUOT, 22 FBIG, 28 INVAL, 33 MFILE, 44 NOENT, 51 NOSPC, 54 NOTDIR, 57 NOTSOCK, 58 NOTSUP, 63 PERM, 69 ROFS, 70 SPIPE, 76 NOTCAPABLE.

(func $args_sizes_get (param $count i32) (param $size i32) (result i32)
  (i32.store $guest (local.get $count) (i32.load $io (i32.load $io (i32.const @args))))
  (i32.store $guest (local.get $size) (i32.load $io offset=4 (i32.load $io (i32.const @args))))
  (i32.const 0))

(func $args_get (param $pointers i32) (param $data i32) (result i32)
  (call $strings (i32.load $io (i32.const @args)) (local.get $pointers) (local.get $data))
  (i32.const 0))

(func $environ_sizes_get (param $count i32) (param $size i32) (result i32)
  (i32.store $guest (local.get $count) (i32.load $io (i32.load $io (i32.const @environ))))
  (i32.store $guest (local.get $size) (i32.load $io offset=4 (i32.load $io (i32.const @environ))))
  (i32.const 0))

(func $environ_get (param $pointers i32) (param $data i32) (result i32)
  (call $strings (i32.load $io (i32.const @environ)) (local.get $pointers) (local.get $data))
  (i32.const 0))

(func $clock_res_get (param $clock i32) (param $out i32) (result i32)
  (if (i32.gt_u (local.get $clock) (i32.const 3)) (then (return (i32.const 28))))
  (i64.store $guest (local.get $out) (i64.load $io (i32.const @resolution)))
  (i32.const 0))

;; The host writes both clocks before each poll. Clocks 2 and 3 (CPU time) count from the start of the invocation.
(func $clock_time_get (param $clock i32) (param $precision i64) (param $out i32) (result i32)
  (if (i32.gt_u (local.get $clock) (i32.const 3)) (then (return (i32.const 28))))
  (i64.store $guest (local.get $out)
    (if (result i64) (i32.eqz (local.get $clock))
      (then (i64.load $io (i32.const @realtime)))
      (else (i64.sub
        (i64.load $io (i32.const @monotonic))
        (select (i64.const 0) (i64.load $io (i32.const @started)) (i32.eq (local.get $clock) (i32.const 1)))))))
  (i32.const 0))

(func $fd_read (param $fd i32) (param $iovs i32) (param $count i32) (param $out i32) (result i32)
  (local $total i32) (local $len i32) (local $pos i32) (local $left i32)
  (local.set $left (call $stream (local.get $fd)))
  (if (i32.eq (local.get $left) (i32.const 3)) (then (return @granted)))
  (if (local.get $left) (then (return (i32.const 8))))
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $count)))
    (local.set $pos (i32.load $io (i32.const @in_pos)))
    (local.set $left (i32.sub (i32.load $io (i32.const @in_len)) (local.get $pos)))
    (br_if $done (i32.eqz (local.get $left)))
    (local.set $len (i32.load $guest offset=4 (local.get $iovs)))
    (if (i32.lt_u (local.get $left) (local.get $len)) (then (local.set $len (local.get $left))))
    (memory.copy $guest $io
      (i32.load $guest (local.get $iovs))
      (i32.add (i32.load $io (i32.const @in_ptr)) (local.get $pos))
      (local.get $len))
    (i32.store $io (i32.const @in_pos) (i32.add (local.get $pos) (local.get $len)))
    (local.set $total (i32.add (local.get $total) (local.get $len)))
    (local.set $iovs (i32.add (local.get $iovs) (i32.const 8)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $next)))
  (i32.store $guest (local.get $out) (local.get $total))
  (i32.const 0))

;; stdout past its bound ends the guest; stderr past its bound is counted and dropped.
(func $fd_write (param $fd i32) (param $iovs i32) (param $count i32) (param $out i32) (result i32)
  (local $total i32) (local $len i32) (local $field i32) (local $held i32) (local $room i32) (local $end i32)
  (local $stream i32) (local $errno i32)
  (local.set $stream (call $stream (local.get $fd)))
  (if (i32.eq (local.get $stream) (i32.const 3))
    (then
      (local.set $errno
        (call $may_grow
          (local.get $fd) (i64.const -1) (call $size (local.get $iovs) (local.get $count))))
      (if (i32.eqz (local.get $errno))
        (then (local.set $errno @granted) (call $charge (local.get $fd))))
      (return (local.get $errno))))
  (if (i32.eqz (local.get $stream)) (then (return (i32.const 8))))
  (local.set $field (select (i32.const @out_ptr) (i32.const @err_ptr) (i32.eq (local.get $stream) (i32.const 1))))
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $count)))
    (local.set $len (i32.load $guest offset=4 (local.get $iovs)))
    (local.set $total (i32.add (local.get $total) (local.get $len)))
    (local.set $held (i32.load $io offset=4 (local.get $field)))
    (local.set $room (i32.sub (i32.load $io offset=8 (local.get $field)) (local.get $held)))
    (if (i32.gt_u (local.get $len) (local.get $room))
      (then
        (if (i32.eq (local.get $stream) (i32.const 1))
          (then (i32.store $io (i32.const @overflow) (i32.const 1)) unreachable))
        (i64.store $io (i32.const @dropped)
          (i64.add (i64.load $io (i32.const @dropped))
            (i64.extend_i32_u (i32.sub (local.get $len) (local.get $room)))))
        (local.set $len (local.get $room))))
    (if (local.get $len)
      (then
        (local.set $end
          (i32.add (i32.load $io (local.get $field)) (i32.add (local.get $held) (local.get $len))))
        (if (i32.gt_u (local.get $end) (memory.size $io))
          (then
            (if (i32.eq (i32.const -1)
                (memory.grow $io
                  (i32.sub
                    (i32.and (i32.add (local.get $end) (i32.const 65535)) (i32.const -65536))
                    (memory.size $io))))
              (then (i32.store $io (i32.const @overflow) (i32.const 2)) unreachable))))
        (memory.copy $io $guest
          (i32.sub (local.get $end) (local.get $len))
          (i32.load $guest (local.get $iovs))
          (local.get $len))
        (i32.store $io offset=4 (local.get $field) (i32.add (local.get $held) (local.get $len)))))
    (local.set $iovs (i32.add (local.get $iovs) (i32.const 8)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $next)))
  (i32.store $guest (local.get $out) (local.get $total))
  (i32.const 0))

;; Neither a terminal nor a file: wasi-libc then buffers stdout in full.
(func $fd_fdstat_get (param $fd i32) (param $out i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i64.store $guest (local.get $out) (i64.const 0))
  (i64.store $guest offset=8 (local.get $out) (select (i64.const 0x8000040) (i64.const 0x8000002) (local.get $fd)))
  (i64.store $guest offset=16 (local.get $out) (i64.const 0))
  (i32.const 0))

(func $fd_filestat_get (param $fd i32) (param $out i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (memory.fill $guest (local.get $out) (i32.const 0) (i32.const 64))
  (i32.const 0))

(func $fd_close (param $fd i32) (result i32)
  (local $errno i32) (local $stream i32)
  (local.set $stream (call $stream (local.get $fd)))
  (local.set $errno @granted)
  (if (i32.eqz (i32.load $io (i32.const @files)))
    (then (local.set $errno (select (i32.const 8) (i32.const 0) (i32.eq (local.get $stream) (i32.const 3))))))
  (if (local.get $errno) (then (return (local.get $errno))))
  (call $gone (local.get $stream))
  (i32.const 0))

(func $fd_fdstat_set_flags (param $fd i32) (param i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 8))

(func $fd_fdstat_set_rights (param $fd i32) (param i64 i64) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 58))

(func $fd_seek (param $fd i32) (param i64 i32 i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 70))

(func $fd_tell (param $fd i32) (param i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 70))

(func $fd_pread (param $fd i32) (param i32 i32 i64 i32) (result i32)
  (local $stream i32)
  (local.set $stream (call $stream (local.get $fd)))
  (if (i32.eq (local.get $stream) (i32.const 3)) (then (return @granted)))
  (select (i32.const 8) (i32.const 70) (local.get $stream)))

(func $fd_pwrite
  (param $fd i32) (param $iovs i32) (param $count i32) (param $offset i64) (param i32) (result i32)
  (local $errno i32) (local $stream i32)
  (local.set $stream (call $stream (local.get $fd)))
  (if (i32.lt_u (local.get $stream) (i32.const 3))
    (then (return (select (i32.const 70) (i32.const 8) (local.get $stream)))))
  (if (i64.lt_s (local.get $offset) (i64.const 0)) (then (return @granted))) ;; EINVAL
  (local.set $errno
    (call $may_grow (local.get $fd) (local.get $offset) (call $size (local.get $iovs) (local.get $count))))
  (if (i32.eqz (local.get $errno))
    (then (local.set $errno @granted) (call $charge (local.get $fd))))
  (local.get $errno))

(func $fd_advise (param $fd i32) (param i64 i64 i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 8))

(func $fd_allocate (param $fd i32) (param $offset i64) (param $len i64) (result i32)
  (local $errno i32)
  (if (i32.lt_u (call $stream (local.get $fd)) (i32.const 3)) (then (return (i32.const 8))))
  (local.set $errno
    (call $may_grow (local.get $fd) (i64.add (local.get $offset) (local.get $len)) (i64.const 0)))
  (if (i32.eqz (local.get $errno))
    (then (local.set $errno @granted) (call $charge (local.get $fd))))
  (local.get $errno))

(func $fd_filestat_set_size (param $fd i32) (param $size i64) (result i32)
  (local $errno i32)
  (if (i32.lt_u (call $stream (local.get $fd)) (i32.const 3)) (then (return (i32.const 8))))
  (local.set $errno (call $may_grow (local.get $fd) (local.get $size) (i64.const 0)))
  (if (i32.eqz (local.get $errno))
    (then (local.set $errno @granted) (call $charge (local.get $fd))))
  (local.get $errno))

(func $fd_filestat_set_times (param $fd i32) (param i64 i64 i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 8))

(func $fd_readdir (param $fd i32) (param i32 i32 i64 i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 8))

(func $fd_datasync (param $fd i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 8))

(func $fd_sync (param $fd i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 8))

(func $fd_renumber (param $from i32) (param $to i32) (result i32)
  (local $errno i32) (local $stream i32) (local $other i32)
  (local.set $stream (call $stream (local.get $from)))
  (local.set $other (call $stream (local.get $to)))
  (local.set $errno @granted)
  (if (i32.eqz (i32.load $io (i32.const @files)))
    (then
      (local.set $errno
        (select (i32.const 8) (i32.const 0)
          (i32.or (i32.eq (local.get $stream) (i32.const 3)) (i32.eq (local.get $other) (i32.const 3)))))))
  (if (i32.or (local.get $errno) (i32.eq (local.get $from) (local.get $to))) (then (return (local.get $errno))))
  (call $gone (local.get $other))
  (if (i32.lt_u (local.get $stream) (i32.const 3))
    (then
      (i32.store $io offset=@streams (i32.shl (local.get $stream) (i32.const 2))
        (i32.xor (local.get $stream) (local.get $to)))))
  (i32.const 0))

(func $fd_prestat_get (param $fd i32) (param i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 8))

(func $fd_prestat_dir_name (param $fd i32) (param i32 i32) (result i32)
  (if (i32.eq (call $stream (local.get $fd)) (i32.const 3)) (then (return @granted)))
  (i32.const 54))

;; Opening a FIFO, a device or a socket could block or reach beyond the grant: the host is asked for the kind
;; first. Its answer needs 64 bytes of the guest's memory, which are saved and put back.
(func $path_open
  (param $fd i32) (param $lookup i32) (param $path i32) (param $path_len i32) (param $oflags i32)
  (param $rights i64) (param i64) (param i32) (param i32) (result i32)
  (local $errno i32) (local $kind i32) (local $new i32) (local $follow i32)
  (if (i32.eqz (i32.load $io (i32.const @files))) (then (return (i32.const 8))))
  (if (i32.ge_u (i32.load $io (i32.const @open_fds)) (i32.load $io (i32.const @max_fds)))
    (then (return (i32.const 33))))
  (memory.copy $io $guest (i32.const @scratch) (i32.const 0) (i32.const 64))
  (local.set $follow (i32.const 1))
  (local.set $errno @path_filestat_get)
  (local.set $kind (i32.load8_u $guest (i32.const 16)))
  (memory.copy $guest $io (i32.const 0) (i32.const @scratch) (i32.const 64))
  ;; ENOENT: it would be created
  (local.set $new (i32.and (local.get $oflags) (i32.eq (local.get $errno) (i32.const 44))))
  (if (i32.and (local.get $new) (i32.eqz (i32.load $io (i32.const @entries_left)))) (then (return (i32.const 19))))
  (if (i32.and
      (i32.eqz (local.get $errno))
      (i32.and (i32.ne (local.get $kind) (i32.const 3)) (i32.ne (local.get $kind) (i32.const 4))))
    (then (local.set $errno (i32.const 2)))
    (else
      (local.set $errno @host)
      (if (i32.eqz (local.get $errno))
        (then
          (i32.store $io (i32.const @open_fds) (i32.add (i32.load $io (i32.const @open_fds)) (i32.const 1)))
          (if (local.get $new) (then (call $take_entry)))
          (return (i32.const 0))))))
  ;; creating, truncating, or the right to write (bit 6)
  (call $denied (local.get $errno) (i32.or (i32.and (local.get $oflags) (i32.const 9)) (i32.and (i32.wrap_i64 (local.get $rights)) (i32.const 64))) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_filestat_get (param $fd i32) (param i32) (param $path i32) (param $path_len i32) (param i32) (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 0) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_readlink (param $fd i32) (param $path i32) (param $path_len i32) (param i32 i32 i32) (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 0) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_create_directory (param $fd i32) (param $path i32) (param $path_len i32) (result i32)
  (local $errno i32)
  (if (call $no_entry_left (local.get $fd) (local.get $path) (local.get $path_len)) (then (return (i32.const 19))))
  (local.set $errno @granted)
  (if (i32.eqz (local.get $errno)) (then (call $take_entry)))
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_remove_directory (param $fd i32) (param $path i32) (param $path_len i32) (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_unlink_file (param $fd i32) (param $path i32) (param $path_len i32) (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_filestat_set_times
  (param $fd i32) (param i32) (param $path i32) (param $path_len i32) (param i64 i64 i32) (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_link
  (param $fd i32) (param i32) (param $from i32) (param $from_len i32) (param i32) (param $path i32)
  (param $path_len i32) (result i32)
  (local $errno i32)
  (if (call $no_entry_left (local.get 4) (local.get $path) (local.get $path_len)) (then (return (i32.const 19))))
  (local.set $errno @granted)
  (if (i32.eqz (local.get $errno)) (then (call $take_entry)))
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_rename
  (param $fd i32) (param $from i32) (param $from_len i32) (param i32) (param $path i32) (param $path_len i32)
  (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_symlink
  (param $from i32) (param $from_len i32) (param $fd i32) (param $path i32) (param $path_len i32) (result i32)
  (local $errno i32)
  (if (call $no_entry_left (local.get $fd) (local.get $path) (local.get $path_len)) (then (return (i32.const 19))))
  (local.set $errno @granted)
  (if (i32.eqz (local.get $errno)) (then (call $take_entry)))
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

;; The host cannot look up descriptors: those that are not there are marked for it, in one bit for each subscription.
(func $poll_oneoff (param $in i32) (param i32) (param $count i32) (param i32) (result i32)
  (local $i i32)
  (i64.store $io (i32.const @missing) (i64.const 0))
  (if (i32.le_u (local.get $count) (i32.const 64))
    (then
      (block $done (loop $next
        (br_if $done (i32.eq (local.get $i) (local.get $count)))
        ;; beyond the memory the host gives EFAULT
        (br_if $done
          (i64.gt_u
            (i64.add (i64.extend_i32_u (local.get $in)) (i64.const 48))
            (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))
        (if (i32.load8_u $guest offset=8 (local.get $in))
          (then
            (if (i32.eqz (call $exists (i32.load $guest offset=16 (local.get $in))))
              (then
                (i64.store $io (i32.const @missing)
                  (i64.or (i64.load $io (i32.const @missing))
                    (i64.shl (i64.const 1) (i64.extend_i32_u (local.get $i)))))))))
        (local.set $in (i32.add (local.get $in) (i32.const 48)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
      (local.set $in (i32.sub (local.get $in) (i32.mul (local.get $i) (i32.const 48))))))
  @host)

;; The import module "edge": call(operation, payload, length) gives the length of the result, or an errno below 0;
;; take(pointer) copies the result, once, and gives an errno.
(func $edge_call (param i32 i32 i32) (result i32) @host)
(func $edge_take (param i32) (result i32) @host)

;; The host reads the exit code, then sees the trap.
(func $proc_exit (param $code i32)
  (i32.store $io (i32.const @exit) (i32.const 1))
  (i32.store $io (i32.const @exit_code) (local.get $code))
  unreachable)

(func $proc_raise (param i32) (result i32) (i32.const 58))

(func $sched_yield (result i32) (i32.const 0))

(func $sock_accept (param $fd i32) (param i32 i32) (result i32)
  (select (i32.const 57) (i32.const 8) (call $exists (local.get $fd))))
(func $sock_recv (param $fd i32) (param i32 i32 i32 i32 i32) (result i32)
  (select (i32.const 57) (i32.const 8) (call $exists (local.get $fd))))
(func $sock_send (param $fd i32) (param i32 i32 i32 i32) (result i32)
  (select (i32.const 57) (i32.const 8) (call $exists (local.get $fd))))
(func $sock_shutdown (param $fd i32) (param i32) (result i32)
  (select (i32.const 57) (i32.const 8) (call $exists (local.get $fd))))

;; ChaCha20 (RFC 8439) under a key that the host draws afresh for each invocation.
(func $random_get (param $out i32) (param $len i32) (result i32)
  (local $a v128) (local $b v128) (local $c v128) (local $d v128)
  (local $round i32) (local $pos i32) (local $n i32)
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $len)))
    (local.set $pos (i32.and (i32.load $io (i32.const @random_pos)) (i32.const 63)))
    (if (i32.eqz (local.get $pos))
      (then
        (local.set $a (v128.const i32x4 0x61707865 0x3320646e 0x79622d32 0x6b206574))
        (local.set $b (v128.load $io (i32.const @random_key)))
        (local.set $c (v128.load $io offset=16 (i32.const @random_key)))
        (local.set $d (v128.load $io (i32.const @random_counter)))
        (local.set $round (i32.const 10))
        (loop $rounds
          (local.set $a (i32x4.add (local.get $a) (local.get $b)))
          (local.set $d (v128.xor (local.get $d) (local.get $a)))
          (local.set $d (v128.or (i32x4.shl (local.get $d) (i32.const 16)) (i32x4.shr_u (local.get $d) (i32.const 16))))
          (local.set $c (i32x4.add (local.get $c) (local.get $d)))
          (local.set $b (v128.xor (local.get $b) (local.get $c)))
          (local.set $b (v128.or (i32x4.shl (local.get $b) (i32.const 12)) (i32x4.shr_u (local.get $b) (i32.const 20))))
          (local.set $a (i32x4.add (local.get $a) (local.get $b)))
          (local.set $d (v128.xor (local.get $d) (local.get $a)))
          (local.set $d (v128.or (i32x4.shl (local.get $d) (i32.const 8)) (i32x4.shr_u (local.get $d) (i32.const 24))))
          (local.set $c (i32x4.add (local.get $c) (local.get $d)))
          (local.set $b (v128.xor (local.get $b) (local.get $c)))
          (local.set $b (v128.or (i32x4.shl (local.get $b) (i32.const 7)) (i32x4.shr_u (local.get $b) (i32.const 25))))
          (local.set $b (i8x16.shuffle 4 5 6 7 8 9 10 11 12 13 14 15 0 1 2 3 (local.get $b) (local.get $b)))
          (local.set $c (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $c) (local.get $c)))
          (local.set $d (i8x16.shuffle 12 13 14 15 0 1 2 3 4 5 6 7 8 9 10 11 (local.get $d) (local.get $d)))
          (local.set $a (i32x4.add (local.get $a) (local.get $b)))
          (local.set $d (v128.xor (local.get $d) (local.get $a)))
          (local.set $d (v128.or (i32x4.shl (local.get $d) (i32.const 16)) (i32x4.shr_u (local.get $d) (i32.const 16))))
          (local.set $c (i32x4.add (local.get $c) (local.get $d)))
          (local.set $b (v128.xor (local.get $b) (local.get $c)))
          (local.set $b (v128.or (i32x4.shl (local.get $b) (i32.const 12)) (i32x4.shr_u (local.get $b) (i32.const 20))))
          (local.set $a (i32x4.add (local.get $a) (local.get $b)))
          (local.set $d (v128.xor (local.get $d) (local.get $a)))
          (local.set $d (v128.or (i32x4.shl (local.get $d) (i32.const 8)) (i32x4.shr_u (local.get $d) (i32.const 24))))
          (local.set $c (i32x4.add (local.get $c) (local.get $d)))
          (local.set $b (v128.xor (local.get $b) (local.get $c)))
          (local.set $b (v128.or (i32x4.shl (local.get $b) (i32.const 7)) (i32x4.shr_u (local.get $b) (i32.const 25))))
          (local.set $b (i8x16.shuffle 12 13 14 15 0 1 2 3 4 5 6 7 8 9 10 11 (local.get $b) (local.get $b)))
          (local.set $c (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $c) (local.get $c)))
          (local.set $d (i8x16.shuffle 4 5 6 7 8 9 10 11 12 13 14 15 0 1 2 3 (local.get $d) (local.get $d)))
          (br_if $rounds (local.tee $round (i32.sub (local.get $round) (i32.const 1)))))
        (v128.store $io (i32.const @random_block)
          (i32x4.add (local.get $a) (v128.const i32x4 0x61707865 0x3320646e 0x79622d32 0x6b206574)))
        (v128.store $io offset=16 (i32.const @random_block)
          (i32x4.add (local.get $b) (v128.load $io (i32.const @random_key))))
        (v128.store $io offset=32 (i32.const @random_block)
          (i32x4.add (local.get $c) (v128.load $io offset=16 (i32.const @random_key))))
        (v128.store $io offset=48 (i32.const @random_block)
          (i32x4.add (local.get $d) (v128.load $io (i32.const @random_counter))))
        (i64.store $io (i32.const @random_counter)
          (i64.add (i64.load $io (i32.const @random_counter)) (i64.const 1)))
        (local.set $pos (i32.const 0))))
    (local.set $n (i32.sub (i32.const 64) (local.get $pos)))
    (if (i32.lt_u (local.get $len) (local.get $n)) (then (local.set $n (local.get $len))))
    (memory.copy $guest $io
      (local.get $out) (i32.add (i32.const @random_block) (local.get $pos)) (local.get $n))
    (i32.store $io (i32.const @random_pos) (i32.add (local.get $pos) (local.get $n)))
    (local.set $out (i32.add (local.get $out) (local.get $n)))
    (local.set $len (i32.sub (local.get $len) (local.get $n)))
    (br $next)))
  (i32.const 0))

;; The strings of a block (count, size, offsets, data) and the pointers to them, as args_get and environ_get give.
(func $strings (param $block i32) (param $pointers i32) (param $data i32)
  (local $left i32)
  (local.set $left (i32.load $io (local.get $block)))
  (memory.copy $guest $io
    (local.get $data)
    (i32.add (i32.add (local.get $block) (i32.const 8)) (i32.shl (local.get $left) (i32.const 2)))
    (i32.load $io offset=4 (local.get $block)))
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $left)))
    (i32.store $guest (local.get $pointers) (i32.add (local.get $data) (i32.load $io offset=8 (local.get $block))))
    (local.set $pointers (i32.add (local.get $pointers) (i32.const 4)))
    (local.set $block (i32.add (local.get $block) (i32.const 4)))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br $next))))

;; Which of stdin, stdout and stderr (0, 1, 2) a descriptor is; 3 for one of the host's, or none.
;; @streams has the descriptor of each, xor its number, so that they begin as zeros; -1 where it is closed.
(func $stream (param $fd i32) (result i32)
  (if (i32.lt_s (local.get $fd) (i32.const 0)) (then (return (i32.const 3))))
  (if (i32.eq (local.get $fd) (i32.load $io (i32.const @streams))) (then (return (i32.const 0))))
  (if (i32.eq (local.get $fd) (i32.xor (i32.const 1) (i32.load $io offset=4 (i32.const @streams))))
    (then (return (i32.const 1))))
  (if (i32.eq (local.get $fd) (i32.xor (i32.const 2) (i32.load $io offset=8 (i32.const @streams))))
    (then (return (i32.const 2))))
  (i32.const 3))

;; A descriptor was closed, which was what $stream says; the host's are counted.
(func $gone (param $stream i32)
  (if (i32.lt_u (local.get $stream) (i32.const 3))
    (then
      (i32.store $io offset=@streams (i32.shl (local.get $stream) (i32.const 2)) (i32.const -1))
      (return)))
  (if (i32.load $io (i32.const @open_fds))
    (then (i32.store $io (i32.const @open_fds) (i32.sub (i32.load $io (i32.const @open_fds)) (i32.const 1))))))

;; Whether a descriptor is open.
(func $exists (param $fd i32) (result i32)
  (local $errno i32)
  (if (i32.lt_u (call $stream (local.get $fd)) (i32.const 3)) (then (return (i32.const 1))))
  (if (i32.eqz (i32.load $io (i32.const @files))) (then (return (i32.const 0))))
  (memory.copy $io $guest (i32.const @scratch) (i32.const 0) (i32.const 64))
  (local.set $errno @fd_fdstat_get)
  (memory.copy $guest $io (i32.const 0) (i32.const @scratch) (i32.const 64))
  (i32.eqz (local.get $errno)))

;; The bytes of iovs.
(func $size (param $iovs i32) (param $count i32) (result i64)
  (local $total i64)
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $count)))
    (local.set $total (i64.add (local.get $total) (i64.load32_u $guest offset=4 (local.get $iovs))))
    (local.set $iovs (i32.add (local.get $iovs) (i32.const 8)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $next)))
  (local.get $total))

;; The size of a file of the host into @size, -1 where it cannot be told; gives the errno of asking for it.
(func $look (param $fd i32) (result i32)
  (local $errno i32)
  (if (i32.eqz (i32.load $io (i32.const @files))) (then (return (i32.const 8))))
  (memory.copy $io $guest (i32.const @scratch) (i32.const 0) (i32.const 64))
  (local.set $errno @fd_filestat_get)
  (i64.store $io (i32.const @size)
    (if (result i64) (local.get $errno) (then (i64.const -1)) (else (i64.load $guest (i32.const 32)))))
  (memory.copy $guest $io (i32.const 0) (i32.const @scratch) (i32.const 64))
  (local.get $errno))

;; Where writing of so many bytes at an offset, or at the position for -1, would end if it all went well; -1 for a file
;; that is not open for writing, or for no offset, which are for the host to refuse. What is open for appending is
;; written at its end.
(func $end (param $fd i32) (param $offset i64) (param $bytes i64) (result i64)
  (local $flags i32) (local $rights i64)
  (memory.copy $io $guest (i32.const @scratch) (i32.const 0) (i32.const 64))
  (if @fd_fdstat_get (then) (else
    (local.set $flags (i32.load16_u $guest (i32.const 2)))
    (local.set $rights (i64.load $guest (i32.const 8)))))
  (if (i64.eq (local.get $offset) (i64.const -1))
    (then
      (if @fd_tell (then (local.set $offset (i64.const 0))) (else (local.set $offset (i64.load $guest (i32.const 0)))))))
  (memory.copy $guest $io (i32.const 0) (i32.const @scratch) (i32.const 64))
  (if (i64.eqz (i64.and (local.get $rights) (i64.const 64))) (then (return (i64.const -1))))
  (if (i32.and (local.get $flags) (i32.const 1))
    (then
      (if (i64.lt_s (local.get $offset) (i64.load $io (i32.const @size)))
        (then (local.set $offset (i64.load $io (i32.const @size)))))))
  (if (i64.lt_s (local.get $offset) (i64.const 0)) (then (return (i64.const -1)))) ;; no system takes such a one
  (if (i64.lt_s (i64.add (local.get $offset) (local.get $bytes)) (i64.const 0))
    (then (return (i64.const 0x7fffffffffffffff))))
  (i64.add (local.get $offset) (local.get $bytes)))

;; What writing gives as errno before it is tried: ENOSPC where a file would grow by more than is left, or beyond the
;; size that one may have. $charge says afterwards what it has cost.
(func $may_grow (param $fd i32) (param $offset i64) (param $bytes i64) (result i32)
  (local $errno i32) (local $end i64)
  (local.set $errno (call $look (local.get $fd)))
  (if (local.get $errno) (then (return (local.get $errno))))
  (local.set $end (call $end (local.get $fd) (local.get $offset) (local.get $bytes)))
  (if (i64.le_s (local.get $end) (i64.load $io (i32.const @size))) (then (return (i32.const 0))))
  (if (i32.or
      (i64.gt_u (local.get $end) (i64.load $io (i32.const @max_file)))
      (i64.gt_u (i64.sub (local.get $end) (i64.load $io (i32.const @size))) (i64.load $io (i32.const @bytes_left))))
    (then (return (i32.const 51))))
  (i32.const 0))

;; Takes from the bytes that may be written what a file has grown by since $may_grow.
(func $charge (param $fd i32)
  (local $before i64) (local $grown i64) (local $left i64)
  (local.set $before (i64.load $io (i32.const @size)))
  (if (call $look (local.get $fd)) (then (return)))
  (local.set $grown (i64.sub (i64.load $io (i32.const @size)) (local.get $before)))
  (if (i64.le_s (local.get $grown) (i64.const 0)) (then (return)))
  (local.set $left (i64.load $io (i32.const @bytes_left)))
  (i64.store $io (i32.const @bytes_left)
    (select (i64.sub (local.get $left) (local.get $grown)) (i64.const 0) (i64.gt_u (local.get $left) (local.get $grown)))))

;; Whether nothing more may be created, and nothing is at a path, so that something would be.
(func $no_entry_left (param $fd i32) (param $path i32) (param $path_len i32) (result i32)
  (local $errno i32) (local $follow i32)
  (if (i32.or (i32.eqz (i32.load $io (i32.const @files))) (i32.load $io (i32.const @entries_left)))
    (then (return (i32.const 0))))
  (memory.copy $io $guest (i32.const @scratch) (i32.const 0) (i32.const 64))
  (local.set $errno @path_filestat_get)
  (memory.copy $guest $io (i32.const 0) (i32.const @scratch) (i32.const 64))
  (i32.eq (local.get $errno) (i32.const 44)))

;; Takes one from the entries that may be created.
(func $take_entry
  (i32.store $io (i32.const @entries_left) (i32.sub (i32.load $io (i32.const @entries_left)) (i32.const 1))))

;; Notes the first 8 refusals of the file system (errno, write, length and start of the path) for the log.
(func $denied (param $errno i32) (param $write i32) (param $path i32) (param $len i32)
  (local $at i32)
  (if (i32.eqz (i32.or
      (i32.or (i32.eq (local.get $errno) (i32.const 2)) (i32.eq (local.get $errno) (i32.const 63)))
      (i32.or (i32.eq (local.get $errno) (i32.const 69)) (i32.eq (local.get $errno) (i32.const 76)))))
    (then (return)))
  (local.set $at (i32.load $io (i32.const @denials)))
  (i32.store $io (i32.const @denials) (i32.add (local.get $at) (i32.const 1)))
  (if (i32.ge_u (local.get $at) (i32.const 8)) (then (return)))
  (local.set $at (i32.add (i32.const @denial_list) (i32.mul (local.get $at) (i32.const 144))))
  (if (i32.gt_u (local.get $len) (i32.const 128)) (then (local.set $len (i32.const 128))))
  (i32.store $io (local.get $at) (local.get $errno))
  (i32.store $io offset=4 (local.get $at) (local.get $write))
  (i32.store $io offset=8 (local.get $at) (local.get $len))
  (memory.copy $io $guest (i32.add (local.get $at) (i32.const 16)) (local.get $path) (local.get $len)))

;; Every memory.grow of the guest becomes a call of this: the policy's bound, and a note of what was refused.
(func $memory_grow (param $delta i32) (result i32)
  (local $before i32) (local $after i64)
  (local.set $before (i32.load $io (i32.const @pages)))
  (local.set $after (i64.add (i64.extend_i32_u (local.get $delta)) (i64.extend_i32_u (local.get $before))))
  (if (i64.gt_u (local.get $after) (i64.extend_i32_u (i32.load $io (i32.const @max_pages))))
    (then
      (i32.store $io (i32.const @refused_pages) (local.get $delta))
      (i32.store $io (i32.const @refused) (i32.const 1))
      (return (i32.const -1))))
  ;; What is there to spare is zero, as what memory.grow gives.
  (if (i64.gt_u (local.get $after) (i64.extend_i32_u (memory.size $guest)))
    (then
      (if (i32.eq
          (i32.const -1)
          (memory.grow $guest (i32.sub (i32.wrap_i64 (local.get $after)) (memory.size $guest))))
        (then (return (i32.const -1))))))
  (i32.store $io (i32.const @pages) (i32.wrap_i64 (local.get $after)))
  (local.get $before))
