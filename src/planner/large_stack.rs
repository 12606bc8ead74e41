//! Gives plans the stack that they need: DataFusion walks them by recursion, as deep as their text is nested.

/// Runs `work` on a thread whose stack fits the deepest plan that the parser's limits let through.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    const STACK_BYTES: usize = 64 << 20;
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("plan".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .expect("the system gives us a thread")
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
