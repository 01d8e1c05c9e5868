//! Safety rules taken away one at a time. Each must make the checker find a counterexample, or the rule is not checked.

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule that a mutated driver breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Mutation {
            $($(#[$doc])* $name,)*
        }

        impl Mutation {
            /// Every mutation.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

mutations! {
    /// The Takeover goes behind the last object of the directory, not to its first hole.
    FillEnd,
    /// Any object of its own ballot that a leader finds at a slot counts as landed, and any object there at all.
    AnyObjectIsOwn,
    /// Copies under older ballots count towards a quorum.
    CountOldCopies,
    /// What lies above the committed mark is not appended again.
    SkipReappend,
    /// An object counts as accepted before those before it have landed.
    OutOfOrder,
    /// An entry carries a committed mark above its own sequence.
    MarkAboveEntry,
    /// A Takeover carries the committed mark and readers believe it.
    TakeoverCarriesMark,
    /// One region is taken for a majority.
    OneRegionIsEnough,
    /// Objects are deleted before the truncation mark is durable.
    DeleteBeforeFloor,
    /// Takeovers before a truncation mark are deleted, too.
    DeleteTakeovers,
    /// A candidate does not read the newest floor again once its Takeover has landed.
    TrustFirstFloor,
    /// Readers and candidates do not check the parent.
    IgnoreParents,
    /// After an unknown outcome other bytes are put at the same key.
    OtherBytes,
    /// A snapshot is installed that covers an entry which is not committed.
    InstallUncommitted,
    /// An Install makes a region forget what it had accepted above it.
    InstallForgets,
    /// An Install names a snapshot that the region does not have.
    InstallWithoutSnapshot,
    /// A path is cut before the leader's own first entry is committed.
    FloorTooEarly,
    /// A path is cut though the region has no snapshot.
    FloorWithoutSnapshot,
    /// A change of voters needs no quorum of the voters before it.
    SingleQuorum,
    /// A candidate asks only the voters in force, not those that later entries set.
    ForgetLaterSets,
    /// A region that joins is taken to hold all settled entries that it has some copy of.
    HeldTooFar,
}
